"""Where `kiqpy new` writes: the project's package, its modules, its pyproject.toml."""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from kiqpy.errors import ConfigError


def place(here: Path, stem: str, given: str | None) -> tuple[Path, str]:
    """The file for a module called `stem`, and the name it is imported by.

    `given` is a file or a folder in the project. Without it, the file goes into the project's own
    package, or into `here` if there is none. Raises ConfigError if the module could not be
    imported, or if it would hide another one.
    """
    path = _package(here) / f"{stem}.py" if given is None else here / given
    if path.suffix != ".py":
        path = path / f"{stem}.py"
    path = Path(os.path.abspath(path))
    if not path.is_relative_to(here):
        raise ConfigError(f"--path {given} is outside of {here}: run this in your project's folder")
    parts = list(path.relative_to(here).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    if wrong := [part for part in parts if not part.isidentifier()]:
        raise ConfigError(
            f"{path}: {wrong[0]!r} can't be part of a module name: choose another file with --path"
        )
    if _hides(parts, here):
        raise ConfigError(f"{path} would hide the installed module {parts[0]!r}: use another name")
    if path.with_suffix("").joinpath("__init__.py").exists():
        raise ConfigError(f"{path.stem} is already a package: use --path {path.stem}/jobs.py")
    return path, ".".join(parts)


def _hides(parts: list[str], here: Path) -> bool:
    """Whether the new module would hide one of Python or of an installed package."""
    if parts[0] in sys.stdlib_module_names:
        return True
    found = find_spec(parts[0]) if len(parts) == 1 else None
    origin = found.origin if found is not None else None
    return origin is not None and not Path(origin).is_relative_to(here)


def _package(here: Path) -> Path:
    """The folder of the package that the project is named after."""
    name = _table(_settings(here / "pyproject.toml"), "project").get("name", "")
    for folder in (here / "src", here):
        found = folder / str(name).replace("-", "_").replace(".", "_").lower()
        if name and (found / "__init__.py").is_file():
            return found
    return here


def write(path: Path, text: str, *, force: bool) -> None:
    """Write the file. Raises ConfigError if it exists, unless `force`, or can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not force:
            raise ConfigError(
                f"{path} already exists: overwrite it with --force, or choose another with --path"
            )
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}") from None


def app_of(here: Path) -> str | None:
    """The value of `[tool.kiqpy] app`; None if it is not set."""
    app = _table(_settings(here / "pyproject.toml"), "tool", "kiqpy").get("app")
    return app if isinstance(app, str) else None


def name_app(here: Path, target: str) -> bool:
    """Append `[tool.kiqpy]` with the app to pyproject.toml.

    False, and nothing is written, if the appended file would not mean exactly that.
    """
    project = here / "pyproject.toml"
    before = _settings(project)
    tools = _table(before, "tool")
    if not before or "kiqpy" in tools:
        return False
    old = project.read_bytes()
    end = "\r\n" if b"\r\n" in old else "\n"
    lines = ["" if old.endswith(b"\n") else end, "[tool.kiqpy]", f'app = "{target}"', ""]
    new = end.join(lines).encode()
    if _parsed(old + new) != {**before, "tool": {**tools, "kiqpy": {"app": target}}}:
        return False
    try:
        with project.open("ab") as file:
            file.write(new)
    except OSError:
        return False
    return True


def _table(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """A nested table; empty if there is none."""
    for name in names:
        found = settings.get(name)
        settings = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    return settings


def _settings(project: Path) -> dict[str, Any]:
    try:
        return _parsed(project.read_bytes())
    except OSError:
        return {}


def _parsed(raw: bytes) -> dict[str, Any]:
    """The parsed file; empty if it is not valid TOML, and then the file is left alone."""
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}

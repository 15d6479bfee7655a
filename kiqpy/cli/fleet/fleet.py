"""Decides which worker processes of a fleet are started, replaced, stopped or killed, and when.

No process is touched here: a `ProcessControl` carries the decisions out.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final, Protocol, final

from kiqpy.cli.fleet.rules import (
    ONE_SIGNAL_S,
    SIGNALLED_AGAIN,
    cause,
    delay_after,
    exit_code,
    heaviest,
    processes,
)

GRACE_S: Final = 25.0  # assumed until a worker reports its app's shutdown_timeout
MARGIN_S: Final = 30.0  # for a stopping worker, beyond its grace: settle, flush, exit
START_S: Final = 120.0  # for a replacement to start its app
PAUSE_S: Final = 60.0  # without recycling, after a replacement that failed to start


class ProcessControl(Protocol):
    """Starts, signals and talks to the processes of a fleet."""

    def start(self, slot: int) -> int:
        """Start a worker process and return its pid. Raises OSError."""
        ...

    def send(self, pid: int, word: str) -> None:
        """Send `stop` or `now` to a worker that is up. A worker that has just ended is no error."""
        ...

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a worker that has not been reaped."""
        ...

    def report(self, text: str) -> None:
        """Show one line to the operator."""
        ...


@final
class WorkerProcess:
    """One worker process, from its start until it is reaped."""

    def __init__(self, pid: int, slot: int, started_at: float) -> None:
        self.pid = pid
        self.slot = slot
        self.started_at = started_at
        self.up_at: float | None = None
        self.grace_s = GRACE_S
        self.stopping = False
        self.kill_at = inf

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"


@final
class Fleet:
    """Keeps `size` slots filled until it is told to stop.

    1. The first worker is started alone. If it ends before its app is up, the fleet ends too,
       with the worker's exit code: the others would fail in the same way.
    2. After that, a worker that ends is started again, after a delay that grows.
    3. A replacement is up before the worker it replaces is told to stop, one slot at a time.
    """

    def __init__(self, size: int, control: ProcessControl, clock: Callable[[], float]) -> None:
        self.workers: dict[int, WorkerProcess] = {}  # by pid
        self.stopping = False
        self.quieted = False
        self._size = size
        self._control = control
        self._clock = clock
        self._stopped_at = clock()
        self._launched = False
        self._start_at: dict[int, float] = {1: clock()}  # by slot
        self._restart_delay: dict[int, float] = {}  # by slot
        self._exit_codes: list[int] = []
        self._slots_to_renew: list[int] = []
        self._replacement: tuple[WorkerProcess, WorkerProcess] | None = None  # old, new
        self._rolling = False
        self._recycle_delay: dict[int, float] = {}  # by slot
        self._no_recycling_until = 0.0

    @property
    def finished(self) -> bool:
        """Whether no worker is left and none will be started."""
        return self.stopping and not self.workers

    @property
    def code(self) -> int:
        """The fleet's exit code."""
        return exit_code(self._exit_codes)

    def wakes_in(self) -> float | None:
        """Seconds until `tick` has something to do; None if only an event can change that."""
        times = [*self._start_at.values(), *(w.kill_at for w in self.workers.values())]
        first = min(times, default=inf)
        return None if first == inf else max(0.0, first - self._clock())

    def tick(self) -> None:
        """Start, replace and kill what is due."""
        now = self._clock()
        for slot in sorted(slot for slot, at in self._start_at.items() if at <= now):
            self._fill(slot)
        self._renew()
        for worker in [w for w in self.workers.values() if w.kill_at <= now]:
            worker.kill_at = inf
            late = "does not end" if worker.stopping else "does not come up"
            self._control.report(f"{worker} {late}: killing it")
            self._control.signal(worker.pid, signal.SIGKILL)

    # -- what happens to workers

    def worker_up(self, pid: int, grace_s: float) -> None:
        """A worker has started its app, which gives running jobs `grace_s` at a stop."""
        worker = self.workers.get(pid)
        if worker is None or worker.up_at is not None:
            return
        worker.up_at = self._clock()
        worker.grace_s = grace_s
        if worker.stopping:
            self._stop_worker(worker)  # the TERM it was sent may have come before its handlers
            return
        self._control.report(f"{worker} is up")
        worker.kill_at = inf
        if self.quieted:
            self._control.signal(pid, signal.SIGTSTP)
        if not self._launched:
            self._launched = True
            others = () if self.quieted else range(2, self._size + 1)
            self._start_at.update(dict.fromkeys(others, self._clock()))
        if self._replacement and self._replacement[1] is worker:
            self._stop_worker(self._replacement[0])

    def worker_ended(self, pid: int, code: int) -> None:
        """A worker was reaped; `code` is negative for a signal."""
        worker = self.workers.pop(pid, None)
        if worker is None:
            return
        if self.stopping or not self._launched:
            self._ended_for_good(worker, code)
            return
        text = f"{worker} {cause(code)}"
        if self._replacement and worker in self._replacement:
            text += self._replacement_ended(worker, self._replacement)
        if self._holder(worker.slot) is None and worker.slot not in self._start_at:
            text += self._start_again(worker)
        if code or not worker.stopping:
            self._control.report(text)

    def _ended_for_good(self, worker: WorkerProcess, code: int) -> None:
        if self.stopping and (worker.up_at is None or code in SIGNALLED_AGAIN):
            return  # signalled before it had handlers, or once more after its app had stopped
        explained = (0,) if self.stopping else (1, 2)  # the worker's own message is the last line
        self.stopping = True
        self._start_at.clear()
        self._exit_codes.append(code)
        if code not in explained:
            self._control.report(f"{worker} {cause(code)}")

    def _start_again(self, worker: WorkerProcess) -> str:
        if self.quieted:
            return "; not started again while the fleet is quiet"
        slot, lived_s = worker.slot, self._clock() - worker.started_at
        delay_s = delay_after(self._restart_delay.get(slot, 0.0), lived_s)
        self._restart_delay[slot] = delay_s
        self._start_at[slot] = self._clock() + delay_s
        return f"; starting it again in {delay_s:g} s"

    # -- what the operator wants

    def stop(self) -> None:
        """Stop all workers in their own time; a call a second later, or more, stops them now."""
        if self.stopping:
            if self._clock() - self._stopped_at >= ONE_SIGNAL_S:
                self._stop_now()
            return
        self.stopping = True
        self._stopped_at = self._clock()
        self._start_at.clear()
        grace_s = max((w.grace_s for w in self.workers.values()), default=0.0)
        self._control.report(
            f"stopping {processes(len(self.workers))}: running jobs get {grace_s:g} s; "
            "a second signal stops them now"
        )
        for worker in self.workers.values():
            if not worker.stopping:
                self._stop_worker(worker)

    def _stop_now(self) -> None:
        self._control.report("stopping now: running jobs go back to their queues")
        for worker in self.workers.values():
            worker.kill_at = min(worker.kill_at, self._clock() + MARGIN_S)
            if worker.up_at is not None:
                self._control.send(worker.pid, "now")

    def _stop_worker(self, worker: WorkerProcess) -> None:
        worker.stopping = True
        worker.kill_at = self._clock() + worker.grace_s + MARGIN_S
        if worker.up_at is None:
            self._control.signal(worker.pid, signal.SIGTERM)
        else:
            self._control.send(worker.pid, "stop")

    def quiet(self) -> None:
        """Let workers claim no more jobs, and start none, until `restart`."""
        if self.stopping:
            return
        self.quieted = True
        self._slots_to_renew.clear()
        if self._launched:
            self._start_at.clear()
        self._control.report("quiet: no more jobs are claimed; running jobs finish")
        for worker in self._up():
            self._control.signal(worker.pid, signal.SIGTSTP)

    def dump(self) -> None:
        """Let all workers write their tasks and stacks."""
        for worker in self._up():
            self._control.signal(worker.pid, signal.SIGTTIN)

    def _up(self) -> Iterator[WorkerProcess]:
        return (w for w in self.workers.values() if w.up_at is not None)

    def restart(self) -> None:
        """Replace all workers, one at a time; ends `quiet`."""
        if self.stopping or not self._launched:
            return
        self.quieted = False
        self._rolling = True
        self._control.report(f"restarting {processes(self._size)}, one at a time")
        slots = range(1, self._size + 1)
        self._slots_to_renew += [slot for slot in slots if slot not in self._slots_to_renew]

    def recycle(self, sizes_mb: Mapping[int, float], limit_mb: float) -> None:
        """Replace the largest worker above `limit_mb`, unless a replacement is under way."""
        if self.stopping or self.quieted or self._replacement or self._slots_to_renew:
            return
        now = self._clock()
        sizes = {w.pid: sizes_mb.get(w.pid, 0.0) for w in self._recyclable(now)}
        pid = heaviest(sizes, limit_mb)
        if pid is None or now < self._no_recycling_until:
            return
        worker = self.workers[pid]
        self._recycle_delay[worker.slot] = delay_after(
            self._recycle_delay.get(worker.slot, 0.0), now - (worker.up_at or now)
        )
        self._control.report(
            f"{worker} has {sizes[pid]:.0f} MB, more than {limit_mb:g}: replacing it"
        )
        self._slots_to_renew.append(worker.slot)

    def _recyclable(self, now: float) -> Iterator[WorkerProcess]:
        """Workers that may be recycled; a slot that grows at once must wait longer each time."""
        for worker in self._up():
            up_s = now - (worker.up_at or now)
            if not worker.stopping and up_s >= self._recycle_delay.get(worker.slot, 0.0):
                yield worker

    # -- starting and replacing

    def _holder(self, slot: int) -> WorkerProcess | None:
        """The worker of this slot that is not stopping."""
        held = (w for w in self.workers.values() if w.slot == slot and not w.stopping)
        return next(held, None)

    def _start(self, slot: int) -> WorkerProcess | None:
        self._start_at.pop(slot, None)
        try:
            pid = self._control.start(slot)
        except OSError as error:
            if not self._launched:
                raise
            self._control.report(f"worker {slot} can't be started: {error}")
            return None
        self.workers[pid] = worker = WorkerProcess(pid, slot, self._clock())
        return worker

    def _fill(self, slot: int) -> None:
        if self._start(slot) is None:
            delay_s = delay_after(self._restart_delay.get(slot, 0.0), 0.0)
            self._restart_delay[slot] = delay_s
            self._start_at[slot] = self._clock() + delay_s

    def _renew(self) -> None:
        if self._replacement or self.stopping:
            return
        if not self._slots_to_renew:
            if self._rolling:
                self._rolling = False
                self._control.report("restarted: all processes are new")
            return
        slot = self._slots_to_renew.pop(0)
        old = self._holder(slot)
        if old is None:
            self._fill(slot)
        elif new := self._start(slot):
            new.kill_at = self._clock() + START_S
            self._replacement = old, new
        else:
            self._stop_replacing()

    def _stop_replacing(self) -> None:
        self._replacement = None
        self._rolling = False
        self._slots_to_renew.clear()
        self._no_recycling_until = self._clock() + PAUSE_S

    def _replacement_ended(
        self, ended: WorkerProcess, replacement: tuple[WorkerProcess, WorkerProcess]
    ) -> str:
        """The old worker has ended: done. The new one has: give up, unless the old one leaves."""
        old, new = replacement
        if ended is old:
            new.kill_at = inf
            self._replacement = None
        elif not old.stopping:
            self._stop_replacing()
            return f" before it was up: {old} stays, and no other worker is replaced"
        return ""

"""The second stage: one task for each claim, and one way in which every run ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, final

from kiqpy._flow.edge import Edge
from kiqpy._flow.tasks import ended
from kiqpy._reporting.bus import Bus
from kiqpy._rules.decide import Rules
from kiqpy._stages.settlement import Settlement
from kiqpy.clock import Clock, Timer
from kiqpy.event import JobSwallowedCancel
from kiqpy.job import Claim, Job
from kiqpy.outcome import RELEASED, Cancelled, Failure, Outcome, Snoozed

CANCEL_S: Final = 3.0  # a cancelled job may clean up for so long; then its claim goes back
_SWALLOWED_S: Final = 5.0
_NO_RULES: Final = Rules()

Why = Literal["released", "timeout", "cancelled", "forgotten"]
_CANCELLED: Final = {"cancelled": Cancelled(), "forgotten": Cancelled(keep=False)}
Task = asyncio.Task[None]
Perform = Callable[["Run"], Coroutine[Any, Any, Outcome]]


@final
class Run:
    """One claim under way. `job` and `rules` are known once it is decoded; `why`, if we cancel.

    `aside`: it waits at a gate, and leaves its slot to others. `edge`: where it has the slot from.
    """

    __slots__ = (
        *("aside", "claim", "holds", "job", "rules", "started", "task", "timer", "why"),
        *("_bus", "_clock", "_edge"),
    )

    def __init__(
        self, claim: Claim, clock: Clock, bus: Bus, edge: Edge[Claim] | None = None
    ) -> None:
        self.aside = False
        self.claim = claim
        self.started = clock.monotonic()
        self.job: Job | None = None
        self.rules = _NO_RULES
        self.task: Task | None = None
        self.why: Why | None = None
        self.holds: list[Callable[[], object]] | None = None
        self._bus = bus
        self._clock = clock
        self._edge = edge
        self.timer: Timer | None = None

    # -- what a gate took for it

    def hold(self, release: Callable[[], object]) -> None:
        """Call `release` when the job's code has ended, however it did; last taken, first."""
        if self.holds is None:
            self.holds = []
        self.holds.append(release)

    def let_go(self) -> None:
        """Call everything that was given to `hold`. Idempotent."""
        while self.holds:
            self.holds.pop()()

    # -- its slot of the queue

    def step_aside(self) -> None:
        """Leave the slot to others while a gate lets the run wait."""
        if self._edge is not None:
            self.aside = True
            self._edge.set_aside()

    async def step_back(self) -> None:
        """Wait for a slot again: in order, and before jobs that are not claimed yet."""
        if self.aside and self._edge is not None:
            await self._edge.take_back()
            self.aside = False

    def leave(self) -> None:
        """If it ends while it is aside: its settling is counted like any other's."""
        if self.aside and self._edge is not None:
            self.aside = False
            self._edge.recall()

    # -- interrupting it

    def limit(self, timeout_s: float) -> None:
        """Cancel the run if it takes longer."""
        self.timer = self._clock.call_later(timeout_s, self._expire)

    def _expire(self) -> None:
        self.interrupt("timeout")

    def interrupt(self, why: Why) -> None:
        """Cancel the run; if it goes on all the same, an event says so after 5 s."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self._clock.call_later(_SWALLOWED_S, self._swallowed)
        self.cancel(why)

    def _swallowed(self) -> None:
        if self.job is not None:
            self._bus.emit(JobSwallowedCancel(self.job, _SWALLOWED_S))

    def cancel(self, why: Why) -> None:
        """Cancel the run's task. The first reason counts, but "cancelled" replaces any other."""
        if self.why is None and self.task is not None:
            self.why = why
            self.task.cancel()
        elif why in _CANCELLED:
            self.why = why

    # -- its end

    def end(self, outcome: Outcome) -> Settlement:
        """The settlement of the run. Every run ends here, whatever it did."""
        took_s = self._clock.monotonic() - self.started
        if self.timer is not None:
            self.timer.cancel()
        if self.job is not None:
            self.job.over = True
        if self.why is not None:
            outcome = self._blamed(outcome, self.why, took_s)
        return Settlement(self.claim, self.job, outcome, self.rules, took_s, self._clock.now())

    def _blamed(self, outcome: Outcome, why: Why, took_s: float) -> Outcome:
        """A failure that we caused is not the job's: released, cancelled, or out of time.

        What ended by itself is settled as it ended, although it ended late.
        """
        if why in _CANCELLED and isinstance(outcome, Failure | Snoozed):
            return _CANCELLED[why]
        if not isinstance(outcome, Failure) or not _of_cancel(outcome.error):
            return outcome
        if why == "released":
            return RELEASED
        late = f"the job took longer than its timeout, and was stopped after {took_s:.3g} s"
        return Failure(TimeoutError(late).with_traceback(outcome.error.__traceback__))


def _of_cancel(error: BaseException | None) -> bool:
    """Whether a cancellation led to the error; clean-up code may raise another one on its way."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, asyncio.CancelledError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


if sys.version_info >= (3, 12):

    def _task(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> Task:
        """Runs the task at once until it waits: one that never waits costs the loop no turn."""
        return asyncio.Task(work, loop=loop, eager_start=True)

else:

    def _task(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> Task:
        return loop.create_task(work)


@final
class Consumer:
    """Runs claims concurrently. `running` holds the runs in progress; there is no other count."""

    def __init__(self, perform: Perform, clock: Clock, bus: Bus) -> None:
        self.running: set[Run] = set()
        self.released: list[Run] = []  # what was given back, not what ended meanwhile
        self._perform = perform
        self._clock = clock
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._finished: list[Settlement] = []
        self._changed = asyncio.Event()
        self._inlet: Edge[Claim] | None = None
        self._outlet: Edge[Settlement] | None = None

    async def run(self, inlet: Edge[Claim] | None, outlet: Edge[Settlement] | None) -> None:
        assert inlet is not None
        assert outlet is not None
        self._inlet, self._outlet = inlet, outlet
        try:
            while (claims := await inlet.get()) is not None:
                for claim in claims:
                    self._start(claim)
            while self.running:
                self._changed.clear()
                await self._changed.wait()
            self._flush()
        except BaseException:
            await self.release(CANCEL_S)
            raise
        finally:
            self._outlet = None
            outlet.close()

    def _start(self, claim: Claim) -> None:
        run = Run(claim, self._clock, self._bus, self._inlet)
        self.running.add(run)
        run.task = _task(self._work(run), self._loop)

    async def _work(self, run: Run) -> None:
        """The whole task of a run; a callback at its end would cost a turn of the loop more."""
        try:
            outcome = await self._perform(run)
        except BaseException as error:
            if not self._loop.is_running():  # the loop is closed: no settling is possible
                raise
            outcome = Failure(error)
        self._conclude(run, outcome)

    def _conclude(self, run: Run, outcome: Outcome) -> None:
        settlement = run.end(outcome)
        if run not in self.running:
            return  # its claim was given back already; the store refuses what it did since
        self.running.discard(run)
        if run.why is not None and settlement.outcome is RELEASED:
            self.released.append(run)
        if run.aside:
            run.leave()
        self._finished.append(settlement)
        if len(self._finished) == 1:  # one batch a turn of the loop, however many runs end in it
            self._loop.call_soon(self._flush)
        if not self.running:
            self._changed.set()

    def _flush(self) -> None:
        if self._finished and self._outlet is not None:
            batch, self._finished = self._finished, []
            self._outlet.offer(batch)

    async def release(self, within_s: float) -> None:
        """Cancel what runs; what has not ended after `within_s` is given back all the same."""
        runs = list(self.running)
        for run in runs:
            run.cancel("released")
        await ended({run.task for run in runs if run.task is not None}, within_s, self._clock)
        for run in runs:  # those that go on, and those that had not even begun
            self._conclude(run, RELEASED)

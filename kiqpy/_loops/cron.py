"""Enqueues periodic jobs at their ticks, in the process that leads."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, final

from kiqpy._flow.loop import Loop
from kiqpy._flow.once import Once
from kiqpy.clock import Clock
from kiqpy.errors import StoreUnavailable
from kiqpy.event import Event, PeriodicEnqueued
from kiqpy.job import Job
from kiqpy.store import OutgoingJob
from kiqpy.store.calendar import MAX_AHEAD_S, Calendar, PeriodicState, Tick

if TYPE_CHECKING:
    from kiqpy.periodic import Periodic

_MAX_TICKS: Final = 100  # ticks that one atomic step enqueues
_NOT_LEADING_S: Final = 60.0  # an election wakes the loop earlier
_MIN_SLEEP_S: Final = 0.001
_log = logging.getLogger("kiqpy")


@final
class Cron(Loop):
    """Enqueues the due ticks, in the process that leads; sleeps until the next tick.

    It looks at all ticks since the last one that is done, not only at the current minute, and the
    store takes each tick once. So a loop that is late, a change of leaders, and two leaders at once
    enqueue the same as one leader in time.
    """

    name = "cron"

    def __init__(
        self,
        calendar: Calendar,
        entries: Sequence[Periodic],
        prepare: Callable[[Job], Awaitable[OutgoingJob | None]],
        leads: Callable[[], bool],
        clock: Clock,
        emit: Callable[[Event], None],
        look_s: float = 10.0,  # how often it reads switches and the store's clock
        on_put_off: Callable[[float], object] = lambda _in_s: None,  # a tick with a jitter
    ) -> None:
        self._calendar = calendar
        self._entries = entries
        self._prepare = prepare
        self._leads = leads
        self._clock = clock
        self._emit = emit
        self._look_s = look_s
        self._on_put_off = on_put_off
        self._names = [entry.name for entry in entries]
        self._next_at = float("-inf")  # by the monotonic clock
        self._schedules_compared = False  # since it leads
        self._complaints = Once()

    def look(self) -> None:
        """Read the operators' switches at the next tick, even if it is due soon."""
        self._next_at = float("-inf")

    async def tick(self) -> float:
        if not self._leads():
            self._next_at = float("-inf")
            self._schedules_compared = False
            return _NOT_LEADING_S
        if self._next_at <= self._clock.monotonic():
            await self._tick_all()
        return max(_MIN_SLEEP_S, self._next_at - self._clock.monotonic())

    async def _tick_all(self) -> None:
        state = await self._state()
        read_at = self._clock.monotonic()
        next_at = state.now + self._look_s
        for entry in self._entries:
            if state.switched.get(entry.name, entry.enabled):
                next_at = min(next_at, await self._tick_entry(entry, state))
        self._next_at = read_at + next_at - state.now

    async def _state(self) -> PeriodicState:
        state = await self._calendar.state(self._names)
        new = {e.name: e.schedule for e in self._entries if not self._has_begun(e, state)}
        if new:
            await self._calendar.register(new)
            state = await self._calendar.state(self._names)
        if stalled := {e.name: e.schedule for e in self._entries if _stalled(e, state)}:
            _log.warning("the server's clock was set back: %s go on", ", ".join(stalled))
            await self._calendar.register(stalled, ahead_s=0.0)
            state = await self._calendar.state(self._names)
        self._schedules_compared = True
        return state

    def _has_begun(self, entry: Periodic, state: PeriodicState) -> bool:
        """Whether the mark is one of this entry's schedule, and of a right clock.

        Schedules are compared only when the process begins to lead: while two releases lead at
        once, each with its own schedule, they must not set the mark to now again and again.
        """
        mark = state.marks.get(entry.name)
        if mark is None or mark.at > state.now + MAX_AHEAD_S:
            return False
        return self._schedules_compared or state.schedules.get(entry.name) == entry.schedule

    async def _tick_entry(self, entry: Periodic, state: PeriodicState) -> float:
        """Enqueue the due ticks of an entry; return when its next tick is, by the store's clock."""
        last = state.marks[entry.name].at
        try:
            await self._catch_up(entry, last, state.now)
        except StoreUnavailable:
            raise
        except Exception as error:  # of its queue, arguments or middleware; other entries go on
            self._complain(entry, error)
            return state.now + self._look_s
        return entry.next(max(last, state.now))

    async def _catch_up(self, entry: Periodic, last: float, now: float) -> None:
        due = entry.due(last, now)
        if due.left_out:
            level = logging.WARNING if entry.misfire == "all" else logging.INFO
            text = "periodic %s: %s missed ticks are not enqueued (misfire=%r)"
            _log.log(level, text, entry.name, due.left_out_text, entry.misfire)
            if not due.ticks:
                await self._calendar.tick(entry.name, [Tick(now, None)], entry.enabled)
        for start in range(0, len(due.ticks), _MAX_TICKS):
            await self._enqueue(entry, due.ticks[start : start + _MAX_TICKS])

    async def _enqueue(self, entry: Periodic, instants: Sequence[float]) -> None:
        ticks = [Tick(at, await self._prepare(self._job(entry, at))) for at in instants]
        for _, same_queue in groupby(ticks, lambda tick: tick.job and tick.job.queue):
            part = list(same_queue)
            results = await self._calendar.tick(entry.name, part, entry.enabled)
            for (at, pushed), result in zip(part, results, strict=True):
                if pushed is not None and result.state in ("queued", "scheduled"):
                    self._emit(PeriodicEnqueued(entry.name, pushed.jid, at))
                    if pushed.in_s is not None:
                        self._on_put_off(pushed.in_s)

    def _job(self, entry: Periodic, at: float) -> Job:
        job = entry.new(at)
        if entry.jitter:
            job.in_s = entry.jitter * self._clock.random()
        return job

    def _complain(self, entry: Periodic, error: Exception) -> None:
        """Log each cause once. Every round tries the entry again."""
        if self._complaints.first((entry.name, str(error))):
            _log.error("periodic %s can't be enqueued: %s", entry.name, error)


def _stalled(entry: Periodic, state: PeriodicState) -> bool:
    """Whether the server's clock was set back by so much that the entry would stand still.

    Its last tick then lies ahead by more than half of what is between two. With less, it was done
    a moment ago, must not be done twice, and the next one comes in time.
    """
    mark = state.marks.get(entry.name)
    if mark is None or mark.at <= state.now:
        return False
    return mark.at - state.now > (entry.next(mark.at) - mark.at) / 2

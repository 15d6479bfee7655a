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
_NOT_LEADING_S: Final = 60.0  # being elected wakes the loop
_SHORTEST_S: Final = 0.001
_log = logging.getLogger("kiqpy")


@final
class Cron(Loop):
    """Enqueues what is due, in the process that leads; sleeps until the next tick.

    All ticks since the last one that was done count, never just the present minute, and the store
    takes each tick once. So a loop that is late, a leader that changes, and two that lead at once
    enqueue the same as one that is in time.
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
        look_s: float = 10.0,  # switches and the store's clock are read this often
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
        self._complaints = Once()

    def look(self) -> None:
        """Read the switches at the next tick, however soon it comes."""
        self._next_at = float("-inf")

    async def tick(self) -> float:
        if not self._leads():
            self._next_at = float("-inf")
            return _NOT_LEADING_S
        if self._next_at <= self._clock.monotonic():
            await self._tick_all()
        return max(_SHORTEST_S, self._next_at - self._clock.monotonic())

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
        latest = state.now + MAX_AHEAD_S
        new = [n for n in self._names if n not in state.marks or state.marks[n].at > latest]
        if not new:
            return state
        await self._calendar.register(new)
        return await self._calendar.state(self._names)

    async def _tick_entry(self, entry: Periodic, state: PeriodicState) -> float:
        """Enqueue the due ticks of one entry; the time of its next tick, by the store's clock."""
        last = state.marks[entry.name].at
        try:
            await self._catch_up(entry, last, state.now)
        except StoreUnavailable:
            raise
        except Exception as error:  # its queue, arguments, middleware; the other entries go on
            self._complain(entry, error)
            return state.now + self._look_s
        return entry.next(max(last, state.now))

    async def _catch_up(self, entry: Periodic, last: float, now: float) -> None:
        due = entry.due(last, now)
        if due.left_out:
            level = logging.WARNING if entry.misfire == "all" else logging.INFO
            text = "periodic %s: %s missed ticks are not made good (misfire=%r)"
            _log.log(level, text, entry.name, due.left_out, entry.misfire)
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
        """Log each cause once; the entry is tried again at every round."""
        if self._complaints.first((entry.name, str(error))):
            _log.error("periodic %s can't be enqueued: %s", entry.name, error)

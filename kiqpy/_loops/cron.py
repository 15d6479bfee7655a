"""Ticks of periodic jobs become jobs."""

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
from kiqpy.store.calendar import AHEAD_S, Calendar, PeriodicState, Tick

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
        look_s: float = 10.0,  # who was enabled, and what the store's clock says, is heard by then
    ) -> None:
        self._calendar = calendar
        self._entries = entries
        self._prepare = prepare
        self._leads = leads
        self._clock = clock
        self._emit = emit
        self._look_s = look_s
        self._names = [entry.name for entry in entries]
        self._again_at = float("-inf")  # by the monotonic clock
        self._complaints = Once()

    async def tick(self) -> float:
        if not self._leads():
            self._again_at = float("-inf")
            return _NOT_LEADING_S
        if self._again_at <= self._clock.monotonic():
            await self._see_to_all()
        return max(_SHORTEST_S, self._again_at - self._clock.monotonic())

    async def _see_to_all(self) -> None:
        look = await self._look()
        looked_at = self._clock.monotonic()
        next_at = look.now + self._look_s
        for entry in self._entries:
            if look.switched.get(entry.name, entry.enabled):
                next_at = min(next_at, await self._see_to(entry, look))
        self._again_at = looked_at + next_at - look.now

    async def _look(self) -> PeriodicState:
        look = await self._calendar.look(self._names)
        latest = look.now + AHEAD_S
        new = [n for n in self._names if n not in look.marks or look.marks[n].at > latest]
        if not new:
            return look
        await self._calendar.note(new)
        return await self._calendar.look(self._names)

    async def _see_to(self, entry: Periodic, look: PeriodicState) -> float:
        """Enqueue what is due of one entry, and say when it is to be looked at again."""
        last = look.marks[entry.name].at
        try:
            await self._catch_up(entry, last, look.now)
        except StoreUnavailable:
            raise
        except Exception as error:  # its queue, its arguments, a middleware: not the others' fault
            self._complain(entry, error)
            return look.now + self._look_s
        return entry.next(max(last, look.now))

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
        for _, same_queue in groupby(ticks, lambda tick: tick.parcel and tick.parcel.queue):
            part = list(same_queue)
            results = await self._calendar.tick(entry.name, part, entry.enabled)
            for (at, parcel), result in zip(part, results, strict=True):
                if parcel is not None and result.state in ("queued", "scheduled"):
                    self._emit(PeriodicEnqueued(entry.name, parcel.jid, at))

    def _job(self, entry: Periodic, at: float) -> Job:
        job = entry.new(at)
        if entry.jitter:
            job.in_s = entry.jitter * self._clock.random()
        return job

    def _complain(self, entry: Periodic, error: Exception) -> None:
        """Log each cause once; the entry is tried again at every round."""
        if self._complaints.first((entry.name, str(error))):
            _log.error("periodic %s can't be enqueued: %s", entry.name, error)

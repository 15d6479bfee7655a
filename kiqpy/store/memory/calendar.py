"""Periodic ticks and leaders in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from kiqpy.store import OutgoingJob
from kiqpy.store.calendar import MAX_AHEAD_S, PeriodicState, Tick, TickMark, TickResult
from kiqpy.store.memory.server import MemoryServer


@final
class MemoryCalendar:
    """See `kiqpy.store.calendar`. Nothing is awaited, so each verb is one step."""

    def __init__(self, server: MemoryServer, ident: str) -> None:
        self._server = server
        self._ident = ident

    async def state(self, names: Sequence[str]) -> PeriodicState:
        marks, switched, schedules = (
            self._server.marks,
            self._server.switched,
            self._server.schedules,
        )
        return PeriodicState(
            now=self._server.clock.now(),
            marks={name: marks[name] for name in names if name in marks},
            switched={name: switched[name] for name in names if name in switched},
            schedules={name: schedules[name] for name in names if name in schedules},
        )

    async def register(self, schedules: Mapping[str, str], ahead_s: float = MAX_AHEAD_S) -> None:
        now, marks = self._server.clock.now(), self._server.marks
        for name, schedule in schedules.items():
            changed = self._server.schedules.get(name, schedule) != schedule
            if changed or name not in marks or marks[name].at > now + ahead_s:
                marks[name] = TickMark(now, ticked=False)
            self._server.schedules[name] = schedule

    async def tick(self, name: str, ticks: Sequence[Tick], enabled: bool) -> list[TickResult]:
        if not self._server.switched.get(name, enabled):
            return [TickResult("off")] * len(ticks)
        with self._server.gate:
            return [self._tick(name, *tick) for tick in ticks]

    def _tick(self, name: str, at: float, item: OutgoingJob | None) -> TickResult:
        mark = self._server.marks.get(name)
        if mark is not None and at <= mark.at:
            return TickResult("past")
        self._server.marks[name] = TickMark(at, ticked=item is not None)
        return TickResult("past") if item is None else self._enqueue(item)

    def _enqueue(self, item: OutgoingJob) -> TickResult:
        server = self._server
        now, lock = server.clock.now(), item.lock
        if lock is not None:
            holder = server.take(lock, item.jid, now + (item.in_s or 0.0))
            if holder is not None:
                return TickResult("duplicate", holder)
        if item.in_s is not None:
            server.places["schedule"].add(item.payload, now + item.in_s)
            return TickResult("scheduled")
        server.queues[item.queue].appendleft(item.payload)
        server.wake([item.queue])
        return TickResult("queued")

    async def switch(self, name: str, enabled: bool, declared: bool) -> bool:
        switched, marks = self._server.switched, self._server.marks
        if switched.get(name, declared) == enabled:
            return False
        now = self._server.clock.now()
        if enabled and (name not in marks or marks[name].at < now):
            marks[name] = TickMark(now, ticked=False)
        if enabled == declared:
            del switched[name]
        else:
            switched[name] = enabled
        return True

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        now, leaders = self._server.clock.now(), self._server.leaders
        leader, until = leaders.get(group, ("", now))
        if until > now and leader != self._ident:
            return False
        leaders[group] = (self._ident, now + ttl_s)
        return True

    async def resign(self, group: str = "") -> None:
        if self._server.leaders.get(group, ("", 0.0))[0] == self._ident:
            del self._server.leaders[group]

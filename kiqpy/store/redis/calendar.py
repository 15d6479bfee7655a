"""Periodic ticks and the leader, on the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast, final

from kiqpy.store import OutgoingJob
from kiqpy.store.calendar import AHEAD_S, Mark, PeriodicState, Tick, TickResult
from kiqpy.store.redis.connections import Arg, Link
from kiqpy.store.redis.keys import Keys

_States = Literal["queued", "scheduled", "duplicate", "past", "off"]
_STATES: Final[dict[str, _States]] = {
    "q": "queued", "s": "scheduled", "d": "duplicate", "p": "past", "o": "off",
}  # fmt: skip


@final
class RedisCalendar:
    """See `kiqpy.store.calendar`."""

    def __init__(self, link: Link, keys: Keys, ident: str) -> None:
        self._link = link
        self._keys = keys
        self._ident = ident

    async def look(self, names: Sequence[str]) -> PeriodicState:
        keys = (self._keys.cron, self._keys.cron_off)
        now, marks, switched = await self._link.call("look", keys, names)
        return PeriodicState(
            float(now),
            {
                name: Mark(abs(float(at)), not at.startswith(b"-"))
                for name, at in zip(names, marks, strict=True)
                if at is not None
            },
            {
                name: off == b"0"
                for name, off in zip(names, switched, strict=True)
                if off is not None
            },
        )

    async def note(self, names: Sequence[str]) -> None:
        await self._link.call("note", (self._keys.cron,), (AHEAD_S, *names))

    async def tick(self, name: str, ticks: Sequence[Tick], enabled: bool) -> list[TickResult]:
        keys = self._keys
        parcels = [tick.parcel for tick in ticks if tick.parcel]
        queue = parcels[0].queue if parcels else "default"
        locks = list(dict.fromkeys(p.lock.token for p in parcels if p.lock))
        names = (keys.cron, keys.cron_off, keys.queues, keys.schedule, keys.queue(queue))
        args: list[Arg] = [name, int(enabled), queue]
        for tick in ticks:
            args += (repr(tick.at), *_words(tick.parcel, locks))
        reply = await self._link.call("tick", (*names, *map(keys.lock, locks)), args)
        return [_ticked(word.decode()) for word in cast("list[bytes]", reply)]

    async def switch(self, name: str, enabled: bool, declared: bool) -> bool:
        keys = (self._keys.cron, self._keys.cron_off)
        args = (name, int(not enabled), int(not declared))
        return bool(await self._link.call("switch", keys, args))

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        args = (self._ident, max(1, int(ttl_s * 1000)))
        return bool(await self._link.call("lead", (self._leader(group),), args))

    async def resign(self, group: str = "") -> None:
        await self._link.call("resign", (self._leader(group),), (self._ident,))

    def _leader(self, group: str) -> str:
        return f"{self._keys.leader}:{group}" if group else self._keys.leader


def _words(parcel: OutgoingJob | None, locks: Sequence[str]) -> tuple[Arg, ...]:
    if parcel is None:
        return b"", "", "", 0, 0
    delay = "" if parcel.in_s is None else repr(float(parcel.in_s))
    lock = parcel.lock
    number, ttl_ms = (locks.index(lock.token) + 1, int(lock.ttl_s * 1000)) if lock else (0, 0)
    return parcel.payload, delay, parcel.jid, number, max(1, ttl_ms)


def _ticked(word: str) -> TickResult:
    return TickResult(_STATES[word[0]], word[1:])

"""Periodic ticks and leaders on a Redis server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast, final

from kiqpy.store import OutgoingJob
from kiqpy.store.calendar import MAX_AHEAD_S, PeriodicState, Tick, TickMark, TickResult
from kiqpy.store.redis.connections import Arg, Connections
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.wire import key_index, lock_words

_States = Literal["queued", "scheduled", "duplicate", "past", "off"]
_STATES: Final[dict[str, _States]] = {
    "q": "queued",
    "s": "scheduled",
    "d": "duplicate",
    "p": "past",
    "o": "off",
}


@final
class RedisCalendar:
    """See `kiqpy.store.calendar`."""

    def __init__(self, connections: Connections, keys: Keys, ident: str) -> None:
        self._connections = connections
        self._keys = keys
        self._ident = ident

    async def state(self, names: Sequence[str]) -> PeriodicState:
        keys = (self._keys.cron, self._keys.cron_off, self._keys.cron_schedule)
        now, *found = await self._connections.call("periodics", keys, names)
        marks, switched, schedules = (
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in cast("list[list[bytes | None]]", found)
        )
        return PeriodicState(
            now=float(now),
            marks={
                name: TickMark(abs(float(at)), ticked=not at.startswith(b"-"))
                for name, at in marks.items()
            },
            switched={name: off == b"0" for name, off in switched.items()},
            schedules={name: text.decode() for name, text in schedules.items()},
        )

    async def register(self, schedules: Mapping[str, str], ahead_s: float = MAX_AHEAD_S) -> None:
        keys = (self._keys.cron, self._keys.cron_schedule)
        pairs = [word for pair in schedules.items() for word in pair]
        await self._connections.call("register", keys, (ahead_s, *pairs))

    async def tick(self, name: str, ticks: Sequence[Tick], enabled: bool) -> list[TickResult]:
        keys = self._keys
        items = [tick.job for tick in ticks if tick.job]
        queue = items[0].queue if items else "default"
        locks = key_index(item.lock.token for item in items if item.lock)
        names = (keys.cron, keys.cron_off, keys.queues, keys.schedule, keys.queue(queue))
        args: list[Arg] = [name, int(enabled), queue]
        for tick in ticks:
            args += (repr(tick.at), *_item_words(tick.job, locks))
        reply = await self._connections.call("tick", (*names, *map(keys.lock, locks)), args)
        return [_ticked(word.decode()) for word in cast("list[bytes]", reply)]

    async def switch(self, name: str, enabled: bool, declared: bool) -> bool:
        keys = (self._keys.cron, self._keys.cron_off)
        args = (name, int(not enabled), int(not declared))
        return bool(await self._connections.call("switch", keys, args))

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        args = (self._ident, max(1, int(ttl_s * 1000)))
        return bool(await self._connections.call("lead", (self._leader(group),), args))

    async def resign(self, group: str = "") -> None:
        await self._connections.call("resign", (self._leader(group),), (self._ident,))

    def _leader(self, group: str) -> str:
        return f"{self._keys.leader}:{group}" if group else self._keys.leader


def _item_words(item: OutgoingJob | None, locks: Mapping[str, int]) -> tuple[Arg, ...]:
    if item is None:
        return b"", "", "", 0, 0
    delay = "" if item.in_s is None else repr(float(item.in_s))
    place, ttl_ms = lock_words(item.lock, locks)
    return item.payload, delay, item.jid, place, max(1, ttl_ms)


def _ticked(word: str) -> TickResult:
    return TickResult(_STATES[word[0]], word[1:])

"""The part of a store for lanes, on a Redis server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, final

from kiqpy.store.lanes import LanePage, LaneRow, lane_row
from kiqpy.store.redis.connections import Connections
from kiqpy.store.redis.keys import Keys


@final
class RedisLanes:
    """See `kiqpy.store.lanes`."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections = connections
        self._keys = keys

    async def page(self, queue: str, cursor: str, count: int) -> LanePage:
        heads, states = self._keys.lanes(queue)
        key, at = (states, cursor[1:]) if cursor.startswith("s") else (heads, cursor)
        command = ("HSCAN", key, at or 0, "COUNT", count)
        after, found = await self._connections.command(*command)
        names = cast("list[bytes]", found)[::2]
        following = after.decode() if isinstance(after, bytes) else str(after)
        rows = await self._rows(queue, [name.decode(errors="replace") for name in names])
        if key == states:  # those with a head were on the pages before
            rows = [row for row in rows if row.state != "idle" and not row.head]
            return LanePage(rows, None if following == "0" else f"s{following}")
        return LanePage(rows, "s0" if following == "0" else following)

    async def row(self, queue: str, lane: str) -> LaneRow:
        return (await self._rows(queue, [lane]))[0]

    async def _rows(self, queue: str, lanes: Sequence[str]) -> list[LaneRow]:
        if not lanes:
            return []
        names = [*self._keys.lanes(queue), *(self._keys.waiting(queue, lane) for lane in lanes)]
        found: list[Any] = await self._connections.call("lane_rows", names, list(lanes))
        return [
            lane_row(
                queue,
                lane,
                _text(found[4 * n]),
                _text(found[4 * n + 1]),
                int(found[4 * n + 2]),
                None if found[4 * n + 3] is None else float(found[4 * n + 3]),
            )
            for n, lane in enumerate(lanes)
        ]

    async def pause(self, queue: str, lane: str) -> bool:
        return await self._switch(queue, lane, "pause")

    async def resume(self, queue: str, lane: str) -> bool:
        return await self._switch(queue, lane, "resume")

    async def pass_over(self, queue: str, lane: str, jid: str) -> bool:
        return await self._switch(queue, lane, "pass", jid)

    async def _switch(self, queue: str, lane: str, what: str, jid: str = "") -> bool:
        names = self._keys.lane(queue, lane)
        return bool(await self._connections.call("lane_switch", names, (lane, what, jid)))


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode(errors="replace")

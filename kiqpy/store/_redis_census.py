"""What there is on the server, and what an operator may do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

from kiqpy.store._keys import Keys
from kiqpy.store._link import Link
from kiqpy.store.census import Entry, Place, entry


@final
class RedisCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        found = {
            name: int(await self._link.command("LLEN", self._keys.queue(name))) for name in queues
        }
        for place in ("schedule", "retry", "dead"):
            found[place] = int(await self._link.command("ZCARD", self._place(place)))
        return found

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        verb = "ZREVRANGE" if last_first else "ZRANGE"
        words = (verb, self._place(place), start, start + count - 1, "WITHSCORES")
        found = await self._link.command(*words)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [entry(raw, float(score)) for raw, score in pairs]

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        span = (start, start + count - 1) if newest else (-(start + count), -(start + 1))
        found = cast(
            "list[bytes]", await self._link.command("LRANGE", self._keys.queue(queue), *span)
        )
        return [entry(raw) for raw in (found if newest else reversed(found))]

    def _place(self, place: Place) -> str:
        return cast("str", getattr(self._keys, place))

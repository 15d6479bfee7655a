"""What there is in memory, and what an operator may do about it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import final

from kiqpy.store._memory_server import MemoryServer
from kiqpy.store.census import Entry, Place, entry


@final
class MemoryCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        sizes = {queue: len(self._server.queues[queue]) for queue in queues}
        return sizes | {place: len(members) for place, members in self._server.places.items()}

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        members = self._server.places[place]
        if last_first:
            end = len(members) - start
            found = members.slice(max(0, end - count), max(0, end))[::-1]
        else:
            found = members.slice(start, start + count)
        return [entry(member, score) for score, member in found]

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        jobs = self._server.queues[queue]
        side = iter(jobs) if newest else reversed(jobs)
        return [entry(raw) for raw in islice(side, start, start + count)]

"""Finds new queues, for declarations whose patterns match their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, final

from kiqpy._flow.loop import Loop
from kiqpy.store.census import Census

_DISCOVER_S: Final = 5.0


class TakesQueues(Protocol):
    """The part that works on queues and can add some."""

    async def discover(self, names: Iterable[str]) -> None: ...


@final
class Discoverer(Loop):
    """Passes the names of all queues to the pipelines, which match them with their patterns."""

    name = "discover"

    def __init__(self, census: Census, pipelines: TakesQueues) -> None:
        self._census = census
        self._pipelines = pipelines

    async def tick(self) -> float:
        queues = await self._census.queues()
        await self._pipelines.discover([queue.name for queue in queues])
        return _DISCOVER_S

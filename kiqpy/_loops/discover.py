"""New queues whose names a group's pattern matches are found here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.store.census import Census

_DISCOVER_S: Final = 5.0


@final
class Discoverer(Loop):
    """Finds queues whose names a pattern means."""

    name = "discover"

    def __init__(self, census: Census, take: Callable[[Iterable[str]], Awaitable[None]]) -> None:
        self._census, self._take = census, take

    async def tick(self) -> float:
        await self._take([queue.name for queue in await self._census.queues()])
        return _DISCOVER_S

"""Moves due jobs from the schedule and retry sets into their queues."""

from __future__ import annotations

from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.store import Maintenance

_MAX_JOBS: Final = 100


@final
class Promoter(Loop):
    """Moves due jobs into their queues; sleeps until the next one, a second at the most."""

    name = "promote"

    def __init__(self, store: Maintenance, poll_s: float) -> None:
        self._store = store
        self._poll_s = poll_s

    async def tick(self) -> float:
        promotion = await self._store.promote(_MAX_JOBS)
        next_in_s = promotion.next_in_s
        return self._poll_s if next_in_s is None else min(self._poll_s, next_in_s)

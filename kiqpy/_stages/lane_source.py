"""Where the claims of a queue with lanes come from: of each lane only its head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from kiqpy._declare.sources import ClaimSource
from kiqpy.errors import FetchPaused
from kiqpy.job import Claim
from kiqpy.store import Source


@final
class LaneSource:
    """Asks the store which claims may run, before it hands them on.

    Nearly always all of them: others are there only if another program has put them into the queue,
    or if their lane was paused meanwhile. They go to their lanes, and are forgotten here. While the
    store does not answer, claims are kept back.
    """

    def __init__(self, inner: ClaimSource, store: Source) -> None:
        self.queues = inner.queues
        self._inner = inner
        self._store = store
        self._unsure: list[Claim] = []

    async def fetch(self, limit: int) -> list[Claim]:
        try:
            self._unsure += await self._inner.fetch(max(0, limit - len(self._unsure)))
        except FetchPaused:
            if not self._unsure:
                raise
        heads = await self._heads() if self._unsure else []
        self._unsure = []
        return heads

    async def _heads(self) -> list[Claim]:
        [queue] = self.queues
        heads = await self._store.heads(queue, self._unsure)
        may_run = {claim.delivery for claim in heads}
        self._inner.settled(queue, {claim.delivery for claim in self._unsure} - may_run)
        return heads

    async def wait(self, timeout_s: float) -> None:
        if not self._unsure:
            await self._inner.wait(timeout_s)

    async def unwait(self) -> None:
        await self._inner.unwait()

    def claimed(self, queue: str) -> set[int]:
        return self._inner.claimed(queue)

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        self._unsure += self._inner.adopt(claims)
        return []

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        self._inner.settled(queue, deliveries)

    def reset(self) -> None:
        self._unsure.clear()
        self._inner.reset()

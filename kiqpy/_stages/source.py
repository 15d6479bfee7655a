"""Where a producer's claims come from: one queue, or several that share a limit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, final

from kiqpy._declare.sources import Order, strict
from kiqpy._stages.lane_source import LaneSource
from kiqpy._stages.monitor import Monitor
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, StoreError, StoreRefused
from kiqpy.job import Claim
from kiqpy.store import Source

_PAUSED_S: Final = 1.0


@final
class StoreSources:
    """Makes sources on one process's half of a store. See `Sources`."""

    def __init__(self, store: Source, clock: Clock, monitor: Monitor) -> None:
        self.store = store
        self.clock = clock
        self.monitor = monitor

    def in_turn(self, queues: Iterable[str], order: Order = strict) -> QueueSource:
        return QueueSource(queues, self.store, self.monitor, order)

    def in_lanes(self, queue: str) -> LaneSource:
        return LaneSource(QueueSource([queue], self.store, self.monitor), self.store)


@final
class QueueSource:
    """Queues that are fetched from in turn until the limit is filled, and waited for together.

    After each fetch `monitor.on_pause` is called with whether the cluster has paused the queue.
    """

    def __init__(
        self, queues: Iterable[str], store: Source, monitor: Monitor, order: Order = strict
    ) -> None:
        self.queues = list(queues)
        self._store = store
        self._monitor = monitor
        self._order = order
        self._claimed: defaultdict[str, set[int]] = defaultdict(set)
        self._paused: set[str] = set()
        self._inbox_maybe_full: set[str] = set()  # a wait may have left a job in our inbox

    # -- what is known

    def claimed(self, queue: str) -> set[int]:
        return self._claimed[queue]

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        unknown = [c for c in claims if c.delivery not in self._claimed[c.queue]]
        for claim in unknown:
            self._claimed[claim.queue].add(claim.delivery)
        return unknown

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        self._claimed[queue].difference_update(deliveries)

    def reset(self) -> None:
        self._claimed.clear()

    # -- fetching

    async def fetch(self, limit: int) -> list[Claim]:
        claims: list[Claim] = []
        refused: StoreRefused | None = None
        for queue in list(self._order(self.queues)):
            if limit and len(claims) >= limit:
                break
            try:
                claims += await self._claim(queue, max(0, limit - len(claims)))
            except FetchPaused:
                self._note(queue, paused=True)
            except StoreRefused as error:  # of this queue; the others must not starve
                refused = error
            except StoreError:
                if not claims:
                    raise
                break  # what was claimed is ours; the next fetch finds out about the rest
        await self._empty_inboxes()
        if not claims and refused is not None:
            raise refused
        if not claims and self._paused.issuperset(self.queues):
            raise FetchPaused("all of its queues are paused")
        return claims

    async def _claim(self, queue: str, limit: int) -> list[Claim]:
        claims = await self._store.fetch(queue, limit)
        self._note(queue, paused=False)
        if claims:
            self._claimed[queue].update([claim.delivery for claim in claims])
        return claims

    def _note(self, queue: str, *, paused: bool) -> None:
        self._inbox_maybe_full.discard(queue)
        if paused:
            self._paused.add(queue)
        else:
            self._paused.discard(queue)
        self._monitor.on_pause(queue, paused)

    async def _empty_inboxes(self) -> None:
        """Give back what a wait has brought and this fetch had no room for: others may run it."""
        for queue in list(self._inbox_maybe_full):
            try:
                await self._store.unwait(queue)
            except StoreError:  # the next fetch does it: claims in hand must not be lost now
                continue
            self._inbox_maybe_full.discard(queue)

    # -- waiting

    async def wait(self, timeout_s: float) -> None:
        if len(self.queues) == 1:
            await self._store.wait(self.queues[0], timeout_s)
            return
        if self._paused:  # they are not waited for: a job in them would end the wait at once
            timeout_s = min(timeout_s, _PAUSED_S)
        open_ = [queue for queue in self.queues if queue not in self._paused]
        self._inbox_maybe_full.update(open_)
        waits = {asyncio.ensure_future(self._store.wait(q, timeout_s)): q for q in open_}
        try:
            idle = await _first(set(waits))
            # One is enough: there may be no slot for what the others would bring.
            await asyncio.gather(*(self._store.unwait(waits[wait]) for wait in idle))
            self._inbox_maybe_full.difference_update(waits[wait] for wait in idle)
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def unwait(self) -> None:
        await asyncio.gather(*(self._store.unwait(queue) for queue in self.queues))


async def _first(waits: set[asyncio.Task[bool]]) -> set[asyncio.Task[bool]]:
    """Return when one of the waits has a reason to look, or all are over; those that go on.

    Waits that end by their timeouts end together: to end them one by one would cost two commands
    for each idle queue.
    """
    while waits:
        done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if any(wait.exception() is not None or wait.result() for wait in done):
            break
    return waits

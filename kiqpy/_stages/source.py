"""Where a producer's claims come from: one queue, or several that share a limit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

from kiqpy.errors import QueuePaused, StoreError, StoreRefused
from kiqpy.job import Claim
from kiqpy.store import Source

Order = Callable[[Sequence[str]], Iterable[str]]
_PAUSED_S: Final = 1.0


def strict(queues: Sequence[str]) -> Sequence[str]:
    """Always in the order given: the second queue when the first is empty."""
    return queues


@final
class ClaimSource:
    """Queues that are fetched from in turn until the limit is filled, and waited for together.

    `mine`: deliveries of each queue that are known to this process, until they are settled.
    `on_pause(queue, paused)` hears after each fetch whether the cluster has paused the queue.
    """

    def __init__(
        self,
        queues: Iterable[str],
        store: Source,
        order: Order = strict,
        on_pause: Callable[[str, bool], object] = lambda _queue, _paused: None,
    ) -> None:
        self.queues = list(queues)
        self.mine: defaultdict[str, set[int]] = defaultdict(set)
        self._store, self._order, self._on_pause = store, order, on_pause
        self._paused: set[str] = set()
        self._boxed: set[str] = set()  # a wait may have left a job of theirs in our inbox

    async def fetch(self, limit: int) -> list[Claim]:
        """Up to `limit` jobs, more if a lost fetch has left some. 0: only empty the inboxes.

        QueuePaused: there are none, and all queues are paused.
        """
        claims: list[Claim] = []
        refused: StoreRefused | None = None
        for queue in list(self._order(self.queues)):
            if limit and len(claims) >= limit:
                break
            try:
                claims += await self._claim(queue, max(0, limit - len(claims)))
            except QueuePaused:
                self._note(queue, True)
            except StoreRefused as error:  # of this queue; the others must not starve
                refused = error
            except StoreError:
                if not claims:
                    raise
                break  # what was claimed is ours; the next fetch finds out about the rest
        await self._empty_boxes()
        if not claims and refused is not None:
            raise refused
        if not claims and self._paused.issuperset(self.queues):
            raise QueuePaused("all of its queues are paused")
        return claims

    async def _claim(self, queue: str, limit: int) -> list[Claim]:
        claims = await self._store.fetch(queue, limit)
        self._note(queue, False)
        if claims:
            self.mine[queue].update([claim.delivery for claim in claims])
        return claims

    def _note(self, queue: str, paused: bool) -> None:
        self._boxed.discard(queue)
        (self._paused.add if paused else self._paused.discard)(queue)
        self._on_pause(queue, paused)

    async def _empty_boxes(self) -> None:
        """What a wait has brought and this fetch had no room for, others may run."""
        for queue in list(self._boxed):
            try:
                await self._store.unwait(queue)
            except StoreError:  # the next fetch sees to it: claims in hand must not be lost now
                continue
            self._boxed.discard(queue)

    async def wait(self, timeout_s: float) -> None:
        """Return when one of the queues may hold a job. Cancel: safe, it owns nothing."""
        if len(self.queues) == 1:
            await self._store.wait(self.queues[0], timeout_s)
            return
        if self._paused:  # they are not waited for: a job in them would end the wait at once
            timeout_s = min(timeout_s, _PAUSED_S)
        open_ = [queue for queue in self.queues if queue not in self._paused]
        self._boxed.update(open_)
        waits = {asyncio.ensure_future(self._store.wait(q, timeout_s)): q for q in open_}
        try:
            idle = await _first(set(waits))
            # One is enough: there may be no slot for what the others would bring.
            await asyncio.gather(*(self._store.unwait(waits[wait]) for wait in idle))
            self._boxed.difference_update(waits[wait] for wait in idle)
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def unwait(self) -> None:
        """End a wait; what it may have received goes back."""
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

"""The first stage: claims as many jobs of one queue as are wanted, and waits if there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

from kiqpy._flow.backoff import Backoff
from kiqpy._flow.edge import Edge
from kiqpy._flow.tree import whole
from kiqpy.clock import Clock
from kiqpy.errors import QueuePaused, StoreError
from kiqpy.job import Claim
from kiqpy.store import Source

PAGE: Final = 100  # jobs a fetch: beyond 50 nothing is gained, and other processes wait
_WAIT_S: Final = 4.0
_PAUSED_S: Final = 1.0


@final
class Producer:
    """Fetch while there is demand and work; wait while there is demand and no work."""

    def __init__(
        self, queue: str, store: Source, clock: Clock, on_trouble: Callable[[StoreError], None]
    ) -> None:
        self.queue = queue
        self._store, self._clock, self._on_trouble = store, clock, on_trouble
        self._quiet = False
        self._awake = asyncio.Event()
        self._outlet: Edge[Claim] | None = None
        self.mine: set[int] = set()  # deliveries known to this process, until they are settled
        self._found: list[Claim] = []

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Claim] | None) -> None:
        assert inlet is None
        assert outlet is not None
        self._outlet = outlet
        backoff = Backoff(self._clock)
        try:
            while not self._quiet:
                try:
                    await self._round(outlet)
                    backoff.reset()
                except QueuePaused:
                    await self._rest(_PAUSED_S)
                except StoreError as error:
                    self._on_trouble(error)
                    await self._rest(backoff.next_s())
        finally:
            outlet.close()

    async def _round(self, outlet: Edge[Claim]) -> None:
        wanted = await outlet.wanted()
        if self._quiet or wanted <= 0:
            return
        if self._found:
            outlet.offer(self._found[:wanted])
            self._found = self._found[wanted:]
            return
        asked = min(wanted, PAGE)
        # Fewer than asked for: the queue is empty, and a wait ends as soon as it no longer is.
        if await whole(self._claim(outlet, asked)) < asked and not self._quiet:
            await self._store.wait(self.queue, _WAIT_S)

    async def _claim(self, outlet: Edge[Claim], limit: int) -> int:
        """Owns claims between its two steps; nothing may come between them."""
        claims = await self._store.fetch(self.queue, limit)
        if claims:
            self.mine.update([claim.delivery for claim in claims])
            room = outlet.demand()  # what a lost fetch has left may be more than is wanted now
            outlet.offer(claims[:room])
            self._found += claims[room:]
        return len(claims)

    async def adopt(self, claims: list[Claim]) -> None:
        """Run claims that the store has on record for us and that we did not know of."""
        self._found += [claim for claim in claims if claim.delivery not in self.mine]
        self.mine.update([claim.delivery for claim in claims])
        await self._store.unwait(self.queue)

    async def _rest(self, seconds: float) -> None:
        self._awake.clear()
        if self._quiet:
            return
        timer = self._clock.call_later(seconds, self._awake.set)
        try:
            await self._awake.wait()
        finally:
            timer.cancel()

    def hush(self) -> None:
        """Claim nothing more."""
        self._quiet = True
        self._awake.set()
        if self._outlet is not None:
            self._outlet.nudge()

    async def quiet(self) -> None:
        """Claim nothing more; what a wait has just received goes back. The rest follows."""
        self.hush()
        try:
            await self._store.unwait(self.queue)
        except StoreError as error:  # the wait then ends by its own timeout
            self._on_trouble(error)

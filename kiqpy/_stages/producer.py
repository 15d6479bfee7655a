"""The first stage: claims as many jobs as are wanted, and waits if there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

from kiqpy._flow.edge import Edge
from kiqpy._flow.pause import Backoff
from kiqpy._flow.tasks import whole
from kiqpy._stages.source import ClaimSource
from kiqpy.clock import Clock
from kiqpy.errors import QueuePaused, StoreError
from kiqpy.job import Claim

PAGE: Final = 250  # jobs a fetch: more gain nothing, and the store serves others, too
_WAIT_S: Final = 4.0
_PAUSED_S: Final = 1.0


@final
class Producer:
    """Fetch while there is demand and work; wait while there is demand and no work."""

    def __init__(
        self, supply: ClaimSource, clock: Clock, on_trouble: Callable[[StoreError], None]
    ) -> None:
        self._supply, self._clock, self._on_trouble = supply, clock, on_trouble
        self._ending = self._resting = self._asked = False
        self._awake = asyncio.Event()
        self._outlet: Edge[Claim] | None = None
        self._found: list[Claim] = []

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Claim] | None) -> None:
        assert inlet is None
        assert outlet is not None
        self._outlet = outlet
        backoff = Backoff(self._clock)
        try:
            while not self._ending:
                try:
                    await self._round(outlet)
                    backoff.reset()
                except QueuePaused:
                    await self._pause(_PAUSED_S)
                except StoreError as error:
                    self._on_trouble(error)
                    await self._pause(backoff.next_s())
        finally:
            outlet.close()

    async def _round(self, outlet: Edge[Claim]) -> None:
        if self._resting and not self._found:
            return await self._pause(None)
        if outlet.demand() <= 0:
            await self._glance(outlet)
        wanted = await outlet.wanted()
        if self._ending:
            return
        if self._found:
            self._hand_on(outlet)
        elif wanted > 0 and not self._resting:
            await self._fetch(outlet, min(wanted, PAGE))

    def _hand_on(self, outlet: Edge[Claim]) -> None:
        """Found claims are this process's already: nobody else can run them, so it does."""
        room = max(0, outlet.demand())
        outlet.offer(self._found[:room])
        self._found = self._found[room:]

    async def _glance(self, outlet: Edge[Claim]) -> None:
        """While nothing is wanted, if asked: hear of pauses, hoard no job that a wait brought."""
        if self._asked and not self._resting:
            self._asked = False
            await whole(self._claim(outlet, 0))

    async def _fetch(self, outlet: Edge[Claim], asked: int) -> None:
        self._asked = False
        # Fewer than asked for: the queue is empty, and a wait ends as soon as it no longer is.
        few = await whole(self._claim(outlet, asked)) < asked
        if few and not self._ending and not self._resting:
            self._asked = True  # what it brings may be more than is wanted by then
            await self._supply.wait(_WAIT_S)

    async def _claim(self, outlet: Edge[Claim], limit: int) -> int:
        """Owns claims between its two steps; nothing may come between them."""
        claims = await self._supply.fetch(limit)
        if claims:
            # What a lost fetch has left may be more than is wanted now, and so may all of it be
            # if the limit was lowered meanwhile.
            self._found += claims
            self._hand_on(outlet)
        return len(claims)

    async def adopt(self, claims: list[Claim]) -> None:
        """Run claims that the store has on record for us and that we did not know of."""
        mine = self._supply.mine
        self._found += [claim for claim in claims if claim.delivery not in mine[claim.queue]]
        for claim in claims:
            mine[claim.queue].add(claim.delivery)
        await self._supply.unwait()

    async def _pause(self, seconds: float | None) -> None:
        """Until somebody wakes it, or so long."""
        self._awake.clear()
        if self._ending:
            return
        timer = None if seconds is None else self._clock.call_later(seconds, self._awake.set)
        try:
            await self._awake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def hush(self) -> None:
        """Claim nothing more, ever; the stage ends."""
        self._ending = True
        self._rouse()

    def rest(self, resting: bool) -> None:
        """Claim nothing more until told otherwise."""
        self._resting = resting
        self._rouse()

    def _rouse(self) -> None:
        self._awake.set()
        if self._outlet is not None:
            self._outlet.nudge()

    def glance(self) -> None:
        """Look whether a queue is paused, also while nothing is wanted."""
        self._asked = True
        self._rouse()

    async def wake(self) -> None:
        """Look for jobs now: a wait ends, what it has just received goes back, a pause is over."""
        self.glance()
        try:
            await self._supply.unwait()
        except StoreError as error:  # the wait then ends by its own timeout
            self._on_trouble(error)

    async def quiet(self) -> None:
        """Claim nothing more; what a wait has just received goes back. The rest follows."""
        self.hush()
        await self.wake()

"""The first stage: claims as many jobs as are wanted, and waits if there are none."""

from __future__ import annotations

import asyncio
from typing import Any, Final, final

from kiqpy._declare.sources import ClaimSource
from kiqpy._flow.edge import Edge
from kiqpy._flow.pause import ExponentialBackoff, wait
from kiqpy._flow.tasks import whole
from kiqpy._stages.monitor import Monitor
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, StoreError
from kiqpy.job import Claim

MAX_JOBS: Final = 250  # of one fetch: more gain nothing, and the store serves others, too
_WAIT_S: Final = 4.0
_PAUSED_S: Final = 1.0


@final
class Producer:
    """Fetch while there is demand and work; wait while there is demand and no work."""

    def __init__(self, source: ClaimSource, clock: Clock, monitor: Monitor) -> None:
        self._source = source
        self._clock = clock
        self._monitor = monitor
        self._draining = False
        self._quiet = False
        self._look = False  # fetch once for what it says, also while nothing is wanted
        self._awake = asyncio.Event()
        self._outlet: Edge[Claim] | None = None
        self._failed = False  # the last fetch has
        self._found: list[Claim] = []  # claimed, and not yet put

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Claim] | None) -> None:
        assert inlet is None
        assert outlet is not None
        self._outlet = outlet
        backoff = ExponentialBackoff(self._clock)
        try:
            while not self._draining:
                try:
                    await self._round(outlet)
                    backoff.reset()
                except FetchPaused:
                    if self._failed:
                        self._recover()
                    await self._pause(_PAUSED_S)
                except StoreError as error:
                    self._failed = True
                    self._report(error)
                    await self._pause(backoff.next_s())
        finally:
            outlet.close()

    def _report(self, error: StoreError) -> None:
        self._monitor.on_error(self._name(), error)

    def _recover(self) -> None:
        self._failed = False
        self._monitor.on_recovery(self._name())

    def _name(self) -> str:
        return ",".join(self._source.queues)

    async def _round(self, outlet: Edge[Claim]) -> None:
        if self._quiet and not self._found:
            return await self._pause(None)
        if outlet.demand() <= 0:
            await self._look_only(outlet)
        wanted = await outlet.wanted()
        if self._draining:
            return
        if self._found:
            self._hand_on(outlet)
        elif wanted > 0 and not self._quiet:
            await self._fetch(outlet, min(wanted, MAX_JOBS))

    def _hand_on(self, outlet: Edge[Claim]) -> None:
        """Put claims as far as there is demand; the store has them on record for this process."""
        room = max(0, outlet.demand())
        outlet.offer(self._found[:room])
        self._found = self._found[room:]

    async def _look_only(self, outlet: Edge[Claim]) -> None:
        """While nothing is wanted, if asked: find out about pauses, empty the inboxes."""
        if self._look and not self._quiet:
            self._look = False
            await whole(self._claim(outlet, 0))

    async def _fetch(self, outlet: Edge[Claim], limit: int) -> None:
        self._look = False
        # Fewer than asked for: the queue is empty, and a wait ends as soon as it no longer is.
        few = await whole(self._claim(outlet, limit)) < limit
        woken = self._look  # meanwhile: there was no wait yet that the call could have ended
        if few and not woken and not self._draining and not self._quiet:
            self._look = True  # what it brings may be more than is wanted by then
            await self._source.wait(_WAIT_S)

    async def _claim(self, outlet: Edge[Claim], limit: int) -> int:
        """Owns claims between its two steps; nothing may come between them."""
        claims = await self._source.fetch(limit)
        if self._failed:
            self._recover()
        if claims:
            # What a lost fetch has left may be more than is wanted now, and so may all of it be
            # if the limit was lowered meanwhile.
            self._found += claims
            self._hand_on(outlet)
        return len(claims)

    async def adopt(self, claims: list[Claim]) -> None:
        """Run claims that the store has on record for this process and that were unknown here."""
        self._found += self._source.adopt(claims)
        await self._source.unwait()

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long, or until `wake`, `quiet` or `drain` is called."""
        self._awake.clear()
        if not self._draining:
            await wait(self._awake, self._clock, seconds)

    # -- control

    def drain(self) -> None:
        """Claim nothing more, ever; the stage ends. `wake` ends a wait that is under way."""
        self._draining = True
        self._resume()

    def quiet(self, on: bool) -> None:
        """Stop claiming jobs, or with `on=False` claim again."""
        self._quiet = on
        self._resume()

    def _resume(self) -> None:
        self._awake.set()
        if self._outlet is not None:
            self._outlet.wake()

    def look(self) -> None:
        """Find out whether a queue is paused, also while nothing is wanted."""
        self._look = True
        self._resume()

    async def wake(self) -> None:
        """Look for jobs now: a wait ends, what it has just received goes back, a pause is over."""
        self.look()
        try:
            await self._source.unwait()
        except StoreError as error:  # the wait then ends by its own timeout
            self._report(error)

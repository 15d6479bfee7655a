"""A session that hands out jobs only when, and only as many as, a test asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import final

from kiqpy.clock import Clock
from kiqpy.job import Claim
from kiqpy.outcome import Verdict
from kiqpy.store import Frame
from kiqpy.store._backend import Backend
from kiqpy.store._session import Session
from kiqpy.store.census import Place


@final
class GatedSession(Session):
    """While the gate is shut, queues look empty, and a wait lasts until the gate is opened."""

    def __init__(self, backend: Backend, clock: Clock, places: Sequence[Place] = ()) -> None:
        super().__init__(backend, clock, places)
        self.left = 0  # how many jobs may still pass
        self.asked: set[str] = set()  # queues that a producer here fetches from
        self.settled = asyncio.Event()
        self._opened: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def wait(self, queue: str, timeout_s: float) -> bool:
        """See `Source.wait`. A shut gate keeps no time: it waits for `admit` or `unwait`."""
        self.asked.add(queue)
        if self.left > 0:
            return await super().wait(queue, timeout_s)
        self._opened[queue].clear()
        return await self._opened[queue].wait()

    async def unwait(self, queue: str) -> None:
        """See `Source.unwait`."""
        self._opened[queue].set()
        await super().unwait(queue)

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        """See `Source.fetch`; claims no more jobs than may still pass."""
        self.asked.add(queue)
        claims = await super().fetch(queue, min(limit, self.left))
        self.left -= len(claims)
        return claims

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        """See `Source.settle`; sets `settled`."""
        kept = await super().settle(frame)
        self.settled.set()
        return kept

    def admit(self, jobs: int) -> None:
        """Let so many jobs pass."""
        self.left = jobs
        for opened in self._opened.values():
            opened.set()

    async def shut(self, queues: Sequence[str] = ()) -> None:
        """Let none pass; producers that wait for a job wait at the gate from now on."""
        self.left = 0
        for queue in queues or sorted(self.asked):
            await super().unwait(queue)

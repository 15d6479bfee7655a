"""A store that hands out jobs only when, and only as many as, a test asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, final

from kiqpy.job import Claim
from kiqpy.outcome import Verdict
from kiqpy.store import Frame, Store


@final
class Gate:
    """A `Store` around another one. Shut: queues look empty, and waits last until it is opened."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.left = 0  # how many jobs may still pass
        self.asked: set[str] = set()  # queues that somebody here fetches from
        self.settled = asyncio.Event()
        self._stirred: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def wait(self, queue: str, timeout_s: float) -> bool:
        """As long as the gate is shut there is nothing to wait for, and no time to keep."""
        self.asked.add(queue)
        if self.left > 0:
            return await self._store.wait(queue, timeout_s)
        self._stirred[queue].clear()
        return await self._stirred[queue].wait()

    async def unwait(self, queue: str) -> None:
        self._stirred[queue].set()
        await self._store.unwait(queue)

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        self.asked.add(queue)
        claims = await self._store.fetch(queue, min(limit, self.left))
        self.left -= len(claims)
        return claims

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        kept = await self._store.settle(frame)
        self.settled.set()
        return kept

    def admit(self, jobs: int) -> None:
        """Let so many jobs pass."""
        self.left = jobs
        for stirred in self._stirred.values():
            stirred.set()

    async def shut(self, queues: Sequence[str] = ()) -> None:
        """Let none pass; whoever waits for one waits here from now on."""
        self.left = 0
        for queue in queues or sorted(self.asked):
            await self._store.unwait(queue)

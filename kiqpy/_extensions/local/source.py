"""Claims of local jobs: from memory first, and those that Redis has of their queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, final

from kiqpy._declare.sources import ClaimSource, SingleQueue, Sources
from kiqpy._extensions.local.journal import Journal
from kiqpy._flow.pause import ExponentialBackoff, wait
from kiqpy._flow.tasks import TaskSet
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, StoreError
from kiqpy.job import Claim

CONCURRENCY: Final = 1000  # of a local queue: as good as none, but it bounds what a process holds
_WAIT_S: Final = 4.0
_LOOK_S: Final = 1.0  # while jobs wait for the lease


@final
class LocalSource:
    """A `ClaimSource` that is fed from memory, and asks Redis only when there may be something.

    So jobs begin without a command, and while Redis is away. What is on record in Redis begins
    only while this process surely owns it: after a lapse of the lease the store is asked which
    backups it still holds, and the others are dropped, because they run elsewhere.
    """

    def __init__(
        self,
        journal: Journal,
        inner: ClaimSource,
        clock: Clock,
        on_error: Callable[[StoreError], object],
    ) -> None:
        self.queues = inner.queues
        self._journal = journal
        self._inner = inner
        self._clock = clock
        self._on_error = on_error
        self._waiting: deque[Claim] = deque()  # not begun
        self._mine: set[int] = set()  # fed, not settled
        self._may_bring = False  # a fetch from Redis may bring a job
        self._is_paused = False
        self._ready = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._tasks = TaskSet()
        self._backoff = ExponentialBackoff(clock)
        self._retry_at = float("-inf")

    # -- fed

    def feed(self, claim: Claim) -> None:
        """Let a job begin when there is room."""
        self._mine.add(claim.delivery)
        self._waiting.append(claim)
        self._ready.set()

    def size(self) -> int:
        """How many jobs were fed and are not settled."""
        return len(self._mine)

    # -- fetching

    async def fetch(self, limit: int) -> list[Claim]:
        self._ready.clear()
        if limit == 0 or self._is_paused:
            return await self._fetch_stored(limit)
        await self._drop_rescued()
        stored = await self._fetch_stored(limit) if self._may_bring else []
        return stored + self._begin(limit - len(stored))

    async def _fetch_stored(self, limit: int) -> list[Claim]:
        """From Redis. If it is away, local jobs go on."""
        try:
            claims = await self._inner.fetch(limit)
        except FetchPaused:
            self._is_paused = True
            raise
        except StoreError as error:
            if self._is_paused:
                raise
            self._failed(error)
            return []
        self._is_paused = False
        if limit > 0:
            self._may_bring = len(claims) >= limit
        return claims

    def _failed(self, error: StoreError) -> None:
        self._may_bring = False
        self._retry_at = self._clock.monotonic() + self._backoff.next_s()
        self._on_error(error)

    def _begin(self, limit: int) -> list[Claim]:
        """The oldest that may begin."""
        if not self._waiting or limit <= 0:
            return []
        if self._journal.trusted():
            return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        only_here = [c for c in self._waiting if self._journal.is_only_here(c.delivery)][:limit]
        begun = set(only_here)
        self._waiting = deque(claim for claim in self._waiting if claim not in begun)
        return only_here

    async def _drop_rescued(self) -> None:
        """After a lapse of the lease: forget what has gone to others meanwhile."""
        try:
            held = await self._journal.rescued()
        except StoreError as error:
            self._failed(error)
            return
        if held is None:
            return
        here = self._journal.is_only_here
        gone = {
            c.delivery for c in self._waiting if c.delivery not in held and not here(c.delivery)
        }
        self._waiting = deque(claim for claim in self._waiting if claim.delivery not in gone)
        self._mine -= gone
        self._journal.forget(gone)

    # -- waiting

    async def wait(self, timeout_s: float) -> None:
        self._look_for_stored()
        if self._waiting:
            timeout_s = min(timeout_s, _LOOK_S)
        if (retry_in_s := self._retry_at - self._clock.monotonic()) > 0:
            timeout_s = min(timeout_s, retry_in_s)
        await wait(self._ready, self._clock, timeout_s)

    def _look_for_stored(self) -> None:
        """Have the queue in Redis waited for, beside the memory."""
        watched = self._watch is not None and not self._watch.done()
        if not watched and not self._may_bring and self._clock.monotonic() >= self._retry_at:
            self._watch = self._tasks.start(self._wait_for_stored(), name="kiqpy:local")

    async def _wait_for_stored(self) -> None:
        try:
            await self._inner.wait(_WAIT_S)
        except StoreError as error:
            self._failed(error)
        else:
            self._backoff.reset()
            self._may_bring = True
        self._ready.set()

    async def unwait(self) -> None:
        self._ready.set()
        await self._inner.unwait()

    # -- what is known

    def claimed(self, queue: str) -> set[int]:
        """Those that the store may have on record; it is compared with what it says it holds."""
        here = self._journal.has
        return self._inner.claimed(queue) | {n for n in self._mine if not here(n)}

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        return self._inner.adopt([c for c in claims if c.delivery not in self._mine])

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        deliveries = list(deliveries)
        self._mine.difference_update(deliveries)
        self._inner.settled(queue, deliveries)

    def reset(self) -> None:
        given_back = {c.delivery for c in self._waiting if not self._journal.has(c.delivery)}
        self._journal.forget(given_back)
        self._waiting = deque(c for c in self._waiting if c.delivery not in given_back)
        self._mine = {claim.delivery for claim in self._waiting}
        self._inner.reset()


@final
class LocalQueue(SingleQueue):
    """The queue of some local workers, as a declaration of the app's."""

    concurrency: int = CONCURRENCY

    def __init__(
        self, journal: Journal, clock: Clock, on_error: Callable[[StoreError], object]
    ) -> None:
        self.name = journal.queue
        self.made: LocalSource | None = None  # the source of the running pipeline
        self._journal = journal
        self._clock = clock
        self._on_error = on_error

    def source(self, sources: Sources) -> ClaimSource:
        """From memory, and from Redis."""
        inner = sources.in_turn([self.name])
        self.made = LocalSource(self._journal, inner, self._clock, self._on_error)
        return self.made

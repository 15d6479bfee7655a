"""One queue's way through the house: its three stages, their edges, and what they have in hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple, TypeVar, final

from kiqpy._flow.backoff import Backoff
from kiqpy._flow.chain import Chain, Link
from kiqpy._flow.edge import Edge
from kiqpy._stages.audience import Audience
from kiqpy._stages.consumer import Consumer, Perform, Run
from kiqpy._stages.producer import Producer
from kiqpy._stages.reporter import Settler
from kiqpy._stages.settlement import Settlement
from kiqpy.clock import Clock
from kiqpy.errors import LeaseLost, QueuePaused, StoreError, StoreUnavailable
from kiqpy.event import Event, JobSwallowedCancel, QueueRestarted
from kiqpy.job import Claim, Job
from kiqpy.outcome import Release
from kiqpy.store import Orders, Store

T = TypeVar("T")
_LEAVE_S: Final = 2.0  # a store that is away must not keep a process from ending


class LineStatistics(NamedTuple):
    """A queue in this process: slots, claims not yet settled, jobs running."""

    limit: int
    claimed: int
    running: int


@final
class Line:
    """Producer -> Consumer -> Settler for one queue, restarted together if one of them breaks.

    The settlements' edge gives its credit to the claims' edge: a slot is free when its job is
    settled and told, so claims never exceed the limit.
    """

    def __init__(
        self,
        queue: str,
        limit: int,
        store: Store,
        perform: Perform,
        audience: Audience,
        clock: Clock,
        on_trouble: Callable[[str, StoreError], None],
    ) -> None:
        self.queue, self.limit = queue, limit
        self._store, self._perform, self._audience, self._clock = store, perform, audience, clock
        self._on_trouble = on_trouble
        self._chain = Chain(self._build, self._mend, self._restarted, clock)
        self._strays: set[int] = set()
        self._boxed = False
        self._stopping = False
        self._build()

    def _build(self) -> Sequence[Link]:
        self._claims: Edge[Claim] = Edge(self.limit)
        settlements: Edge[Settlement] = Edge(self.limit, source=self._claims)
        self._producer = Producer(self.queue, self._store, self._clock, self._trouble)
        if self._stopping:
            self._producer.hush()
        self._consumer = Consumer(self._perform, self._clock, self._swallowed)
        mine = self._producer.mine
        settler = Settler(self.queue, self._store, self._audience, self._clock, mine)
        return (
            Link(self._producer, None, self._claims),
            Link(self._consumer, self._claims, settlements),
            Link(settler, settlements, None),
        )

    async def run(self) -> None:
        """Until the producer is quiet and all is settled. Raises if it breaks again and again."""
        try:
            await self._chain.run()
        except Exception:
            await self._give_back(_LEAVE_S)
            raise
        await self._give_back(_LEAVE_S)

    async def quiet(self) -> None:
        """Claim nothing more; `run` ends when what runs has ended."""
        self._stopping = True
        await self._producer.quiet()

    async def release(self, within_s: float) -> None:
        """Cancel what runs; what does not end is given back all the same."""
        await self._consumer.release(within_s)

    def runs(self) -> list[Run]:
        """What runs now."""
        return list(self._consumer.running.values())

    def statistics(self) -> LineStatistics:
        """Counts for people and tests."""
        owed = self._claims.statistics().owed
        return LineStatistics(self.limit, owed, len(self._consumer.running))

    async def reconcile(self, orders: Orders) -> None:
        """Compare what the store has on record for us with what we know, at each heartbeat.

        Twice the same surprise is no race: a fetch that was applied long after we gave it up, a
        wait that was answered after its connection had gone.
        """
        unknown: set[int] = set()
        if orders.held.get(self.queue, 0) > len(self._producer.mine):
            claims = await self._store.holding(self.queue)
            unknown = {c.delivery for c in claims} - self._producer.mine
            again = unknown & self._strays
            if again:
                await self._producer.adopt([c for c in claims if c.delivery in again])
        self._strays = unknown
        boxed = orders.inbox.get(self.queue, 0) > 0
        if boxed and (self._boxed or self._claims.demand() <= 0):
            await self._store.unwait(self.queue)
        self._boxed = boxed

    async def _mend(self) -> None:
        """After a break: what the broken stages had in hand goes back, however long it takes."""
        await self._give_back(inf)

    async def _give_back(self, within_s: float) -> None:
        """Whatever the store has on record for us, known to us or not, goes back to the queue."""
        late = self._clock.monotonic() + within_s
        try:
            await self._persist(self._clear, late)
            claims = await self._persist(lambda: self._store.holding(self.queue), late)
            if claims:
                frame = self._store.frame(self.queue, [Release(c.delivery) for c in claims])
                await self._persist(lambda: self._store.settle(frame), late)
        except StoreUnavailable as error:  # then it is rescued when the lease has run out
            self._trouble(error)

    async def _clear(self) -> None:
        """No fetch in doubt and nothing in the inbox any more."""
        with suppress(LeaseLost, QueuePaused):
            await self._store.fetch(self.queue, 0)

    async def _persist(self, step: Callable[[], Awaitable[T]], late: float) -> T:
        backoff = Backoff(self._clock)
        while True:
            try:
                return await step()
            except StoreUnavailable:
                if self._clock.monotonic() >= late:
                    raise
            await backoff.pause()

    def _restarted(self, error: BaseException, restarts: int) -> None:
        self._audience.bus.emit(QueueRestarted(self.queue, repr(error), restarts))

    def _swallowed(self, job: Job, after_s: float) -> None:
        event: Event = JobSwallowedCancel(job, after_s)
        self._audience.bus.emit(event)

    def _trouble(self, error: StoreError) -> None:
        self._on_trouble(self.queue, error)

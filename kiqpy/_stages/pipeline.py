"""One queue's way through the house: its three stages, their edges, and what they have in hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple, TypeVar, final

from kiqpy._flow.chain import Chain, Link
from kiqpy._flow.edge import Edge
from kiqpy._flow.pause import Backoff
from kiqpy._flow.tasks import together
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._reporting.event_queue import EventQueue
from kiqpy._stages.consumer import Consumer, Perform, Run
from kiqpy._stages.producer import Producer
from kiqpy._stages.settlement import Settlement
from kiqpy._stages.settler import Settler
from kiqpy._stages.source import ClaimSource
from kiqpy.clock import Clock
from kiqpy.errors import LeaseLost, QueuePaused, StoreError, StoreUnavailable
from kiqpy.event import Event, JobSwallowedCancel, QueueRestarted
from kiqpy.job import Claim, Job
from kiqpy.outcome import Release
from kiqpy.store import HeartbeatReply, Store

T = TypeVar("T")
_LEAVE_S: Final = 2.0  # a store that is away must not keep a process from ending


class LineStatistics(NamedTuple):
    """A queue in this process: slots, claims on the store's record, jobs running."""

    limit: int
    claimed: int
    running: int


@final
class QueuePipeline:
    """Producer -> Consumer -> Settler for one queue, restarted together if one of them breaks.

    Or for several queues that share a limit. The settlements' edge gives its credit to the
    claims' edge: a slot is free when its job's ack leaves. So never more than the limit run, and
    the claims are at most a frame of acks more.
    """

    def __init__(
        self,
        supply: ClaimSource,
        limit: int,
        store: Store,
        perform: Perform,
        audience: ReporterDispatcher,
        clock: Clock,
        on_trouble: Callable[[str, StoreError], None],
    ) -> None:
        self.supply, self.limit = supply, limit
        self._store, self._perform, self._audience, self._clock = store, perform, audience, clock
        self._on_trouble = on_trouble
        self._telling = EventQueue(audience)
        self._chain = Chain(self._build, self._mend, self._restarted, clock)
        self._strays: set[Claim] = set()
        self._boxed: set[str] = set()
        self._resting = self.ending = False
        self._build()

    @property
    def name(self) -> str:
        return ",".join(self.supply.queues)

    def _build(self) -> Sequence[Link]:
        self.supply.mine.clear()
        self._claims: Edge[Claim] = Edge(self.limit)
        self._settlements: Edge[Settlement] = Edge(self.limit, source=self._claims)
        self._producer = Producer(self.supply, self._clock, self._trouble)
        self._producer.rest(self._resting)
        if self.ending:
            self._producer.hush()
        self._consumer = Consumer(self._perform, self._clock, self._swallowed)
        mine = self.supply.mine
        settler = Settler(self._store, self._audience, self._clock, mine, self._telling)
        return (
            Link(self._producer, None, self._claims),
            Link(self._consumer, self._claims, self._settlements),
            Link(settler, self._settlements, None),
        )

    async def run(self) -> None:
        """Until the producer is quiet and all is settled. Raises if it breaks again and again."""
        await together([self._work, self._telling.run])

    async def _work(self) -> None:
        try:
            await self._chain.run()
        except Exception:
            await self._give_back(_LEAVE_S)
            raise
        await self._give_back(_LEAVE_S)
        self._telling.end()

    async def quiet(self) -> None:
        """Claim nothing more, ever; `run` ends when what runs has ended."""
        self.ending = True
        await self._producer.quiet()

    def rest(self, resting: bool) -> None:
        """Claim nothing more until told otherwise; `wake` ends a wait that is under way."""
        self._resting = resting
        self._producer.rest(resting)

    async def wake(self) -> None:
        """Look for jobs now."""
        await self._producer.wake()

    def scale(self, limit: int) -> None:
        """Run so many jobs at a time; those above a lower limit end in their own time."""
        self.limit = self._claims.limit = limit
        self._settlements.limit = max(self._settlements.limit, limit)
        self._claims.nudge()

    async def release(self, within_s: float) -> None:
        """Cancel what runs; what does not end is given back all the same."""
        await self._consumer.release(within_s)

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt those of the cancelled jobs that run here; they are taken off the list."""
        for run in self.runs():
            if run.job is not None and (keep := cancelled.pop(run.job.jid, None)) is not None:
                run.interrupt("cancelled" if keep else "forgotten")

    def runs(self) -> list[Run]:
        """What runs now."""
        return list(self._consumer.running)

    def statistics(self) -> LineStatistics:
        """Counts for people and tests."""
        claimed = sum(map(len, self.supply.mine.values()))
        return LineStatistics(self.limit, claimed, len(self._consumer.running))

    async def reconcile(self, orders: HeartbeatReply) -> None:
        """Compare what the store has on record for us with what we know, at each heartbeat.

        Twice the same surprise is no race: a fetch that was applied long after we gave it up, a
        wait that was answered after its connection had gone.
        """
        unknown: set[Claim] = set()
        for queue in self.supply.queues:
            unknown |= await self._unknown(queue, orders)
        if again := sorted(unknown & self._strays):
            await self._producer.adopt(again)
        self._strays = unknown
        boxed = {queue for queue in self.supply.queues if orders.inbox.get(queue, 0) > 0}
        full = self._claims.demand() <= 0
        if boxed if full else boxed & self._boxed:
            await self._producer.wake()
        elif full:
            self._producer.glance()
        self._boxed = boxed

    async def _unknown(self, queue: str, orders: HeartbeatReply) -> set[Claim]:
        mine = self.supply.mine[queue]
        if orders.held.get(queue, 0) <= len(mine):
            return set()
        return {c for c in await self._store.holding(queue) if c.delivery not in mine}

    async def _mend(self) -> None:
        """After a break: what the broken stages had in hand goes back, however long it takes."""
        await self._give_back(inf)

    async def _give_back(self, within_s: float) -> None:
        """Whatever the store has on record for us, known to us or not, goes back to the queue."""
        late = self._clock.monotonic() + within_s
        for queue in self.supply.queues:
            try:
                await self._return(queue, late)
            except StoreUnavailable as error:  # then it is rescued when the lease has run out
                self._trouble(error)

    async def _return(self, queue: str, late: float) -> None:
        await self._persist(lambda: self._clear(queue), late)
        claims = await self._persist(lambda: self._store.holding(queue), late)
        if claims:
            frame = self._store.frame(queue, [Release(c.delivery) for c in claims])
            await self._persist(lambda: self._store.settle(frame), late)

    async def _clear(self, queue: str) -> None:
        """No fetch in doubt and nothing in the inbox any more."""
        with suppress(LeaseLost, QueuePaused):
            await self._store.fetch(queue, 0)

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
        self._audience.bus.emit(QueueRestarted(self.name, repr(error), restarts))

    def _swallowed(self, job: Job, after_s: float) -> None:
        event: Event = JobSwallowedCancel(job, after_s)
        self._audience.bus.emit(event)

    def _trouble(self, error: StoreError) -> None:
        self._on_trouble(self.name, error)

"""One queue's way through the house: its three stages, their edges, and what they have in hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple, TypeVar, final

from kiqpy._declare.sources import ClaimSource
from kiqpy._flow.chain import Chain, StageLink
from kiqpy._flow.edge import Edge
from kiqpy._flow.pages import pages
from kiqpy._flow.pause import ExponentialBackoff
from kiqpy._flow.tasks import together
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._reporting.event_queue import EventQueue
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf
from kiqpy._stages.consumer import Consumer, Perform, Run
from kiqpy._stages.monitor import Monitor
from kiqpy._stages.producer import Producer
from kiqpy._stages.settlement import Settlement
from kiqpy._stages.settler import Settler
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, LeaseLost, StoreError, StoreUnavailable
from kiqpy.event import QueueRestarted
from kiqpy.job import Claim
from kiqpy.outcome import Release, Verdict
from kiqpy.store import Frame, HeartbeatReply, Source

T = TypeVar("T")
_ASIDE_PER_SLOT: Final = 10  # jobs that wait at a gate, beside those that have a slot
_MAX_RELEASES_PER_FRAME: Final = 500  # well under 5 ms of the store's time
_LEAVE_S: Final = 2.0  # a store that is away must not keep a process from ending


class PipelineStatistics(NamedTuple):
    """One pipeline: slots, claims on the store's record, jobs running."""

    limit: int
    claimed: int
    running: int


@final
class QueuePipeline:
    """Producer -> Consumer -> Settler for one queue, restarted together if one of them breaks.

    Or for several queues that share a limit. The settlements' edge gives its credit to the
    claims' edge: a slot is free when its job's ack leaves. So never more than the limit run, and
    the claims are at most a frame of acks more, and the jobs that wait at a gate: they leave their
    slots to others.
    """

    def __init__(
        self,
        *,
        source: ClaimSource,
        limit: int,
        store: Source,
        perform: Perform,
        dispatcher: ReporterDispatcher,
        clock: Clock,
        monitor: Monitor,
        effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
    ) -> None:
        self.source = source
        self.limit = limit
        self.draining = False
        self._store = store
        self._perform = perform
        self._dispatcher = dispatcher
        self._clock = clock
        self._monitor = monitor
        self._effects_of = effects_of
        self._quiet = False
        self._events = EventQueue(dispatcher)
        self._chain = Chain(self._build, self._give_back_all, self._restarted, clock)
        self._strays: set[Claim] = set()
        self._full_inboxes: set[str] = set()
        self._build()

    @property
    def name(self) -> str:
        return ",".join(self.source.queues)

    def __repr__(self) -> str:
        limit, claimed, running = self.statistics()
        return f"<QueuePipeline {self.name}: {running}/{limit} running, {claimed} claimed>"

    def _build(self) -> Sequence[StageLink]:
        self.source.reset()
        self._claims: Edge[Claim] = Edge(self.limit, aside_limit=_ASIDE_PER_SLOT * self.limit)
        self._settlements: Edge[Settlement] = Edge(_ends(self.limit), source=self._claims)
        self._producer = Producer(self.source, self._clock, self._monitor)
        self._producer.quiet(self._quiet)
        if self.draining:
            self._producer.drain()
        self._consumer = Consumer(self._perform, self._clock, self._dispatcher.bus)
        settler = Settler(
            store=self._store,
            dispatcher=self._dispatcher,
            clock=self._clock,
            source=self.source,
            event_queue=self._events,
            effects_of=self._effects_of,
            on_error=self._monitor.on_error,
            on_recovery=self._monitor.on_recovery,
        )
        return (
            StageLink(self._producer, None, self._claims),
            StageLink(self._consumer, self._claims, self._settlements),
            StageLink(settler, self._settlements, None),
        )

    async def run(self) -> None:
        """Until it is drained and all is settled. Raises if its stages break again and again."""
        await together([self._work, self._events.run])

    async def _work(self) -> None:
        try:
            await self._chain.run()
        except Exception:
            await self._give_back(_LEAVE_S)
            raise
        await self._give_back(_LEAVE_S)
        self._events.close()

    # -- control

    async def drain(self) -> None:
        """Claim nothing more, ever; `run` ends when what runs has ended."""
        self.draining = True
        self._producer.drain()
        await self._producer.wake()

    def quiet(self, on: bool) -> None:
        """Stop claiming jobs, or with `on=False` claim again; `wake` ends a wait in progress."""
        self._quiet = on
        self._producer.quiet(on)

    async def wake(self) -> None:
        """Look for jobs now."""
        await self._producer.wake()

    def scale(self, limit: int) -> None:
        """Run so many jobs at a time; those above a lower limit are not interrupted."""
        self.limit = self._claims.limit = limit
        self._claims.aside_limit = _ASIDE_PER_SLOT * limit
        self._settlements.limit = max(self._settlements.limit, _ends(limit))
        self._claims.wake()

    async def release(self, within_s: float) -> list[Run]:
        """Cancel what runs; what does not end is given back all the same. What was given back."""
        await self._consumer.release(within_s)
        return self._consumer.released

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt those of the cancelled jobs that run here; they are taken off the list."""
        for run in self.runs():
            if run.job is not None and (keep := cancelled.pop(run.job.jid, None)) is not None:
                run.interrupt("cancelled" if keep else "forgotten")

    # -- inspect

    def runs(self) -> list[Run]:
        """What runs now."""
        return list(self._consumer.running)

    def statistics(self) -> PipelineStatistics:
        """Counts for people and tests."""
        claimed = sum(len(self.source.claimed(queue)) for queue in self.source.queues)
        running = sum(not run.aside for run in self._consumer.running)
        return PipelineStatistics(self.limit, claimed, running)

    # -- the store's record of what this process has claimed

    async def reconcile(self, reply: HeartbeatReply) -> None:
        """Compare what the store has on record for us with what we know, at each heartbeat.

        Twice the same surprise is no race: a fetch that was applied long after we gave it up, a
        wait that was answered after its connection had gone.
        """
        unknown: set[Claim] = set()
        for queue in self.source.queues:
            unknown |= await self._unknown(queue, reply)
        if again := sorted(unknown & self._strays):
            await self._producer.adopt(again)
        self._strays = unknown
        await self._check_inboxes(reply)

    async def _unknown(self, queue: str, reply: HeartbeatReply) -> set[Claim]:
        claimed = self.source.claimed(queue)
        if reply.held.get(queue, 0) <= len(claimed):
            return set()
        return {c for c in await self._store.holding(queue) if c.delivery not in claimed}

    async def _check_inboxes(self, reply: HeartbeatReply) -> None:
        full = {queue for queue in self.source.queues if reply.inbox.get(queue, 0) > 0}
        busy = self._claims.demand() <= 0
        if full if busy else full & self._full_inboxes:
            await self._producer.wake()
        elif busy:
            self._producer.look()
        self._full_inboxes = full

    async def _give_back_all(self) -> None:
        """After a break: what the broken stages had in hand goes back, however long it takes."""
        await self._give_back(inf)

    async def _give_back(self, within_s: float) -> None:
        """Whatever the store has on record for us, known to us or not, goes back to the queue."""
        until = self._clock.monotonic() + within_s
        for queue in self.source.queues:
            try:
                await self._return(queue, until)
            except StoreError as error:  # then it is rescued when the lease has run out
                self._monitor.on_error(self.name, error)

    async def _return(self, queue: str, until: float) -> None:
        await self._persist(lambda: self._clear(queue), until)
        claims = await self._persist(lambda: self._store.holding(queue), until)
        newest_first = [Release(claim.delivery) for claim in reversed(claims)]
        for page in pages(newest_first, _MAX_RELEASES_PER_FRAME):
            await self._settle(self._store.frame(queue, page), until)

    async def _settle(self, frame: Frame[Verdict], until: float) -> None:
        await self._persist(lambda: self._store.settle(frame), until)

    async def _clear(self, queue: str) -> None:
        """No fetch in doubt and nothing in the inbox any more."""
        with suppress(LeaseLost, FetchPaused):
            await self._store.fetch(queue, 0)

    async def _persist(self, step: Callable[[], Awaitable[T]], until: float) -> T:
        backoff = ExponentialBackoff(self._clock)
        while True:
            try:
                return await step()
            except StoreUnavailable:
                if self._clock.monotonic() >= until:
                    raise
            await backoff.pause()

    def _restarted(self, error: BaseException, restarts: int) -> None:
        self._dispatcher.bus.emit(QueueRestarted(self.name, repr(error), restarts))


def _ends(limit: int) -> int:
    """How many runs may end at once: those with a slot, and those aside, whose bound is soft."""
    return (2 + _ASIDE_PER_SLOT) * limit

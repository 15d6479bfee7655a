"""The surroundings of a stage in a test: a clock, a memory store that can fail, listeners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kiqpy._declare.sources import Order, strict
from kiqpy._extensions.cancel import Cancelling
from kiqpy._extensions.composition import Composition
from kiqpy._extensions.expire import Expiring
from kiqpy._extensions.slots import WorkerSlots
from kiqpy._extensions.unique import UniqueJobs
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.decide import Rules
from kiqpy._stages.consumer import Run
from kiqpy._stages.executor import Executor
from kiqpy._stages.perform import Defaults, Performer
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy._stages.settlement import Settlement
from kiqpy._stages.source import QueueSource
from kiqpy.errors import StoreError
from kiqpy.event import Event
from kiqpy.job import Claim
from kiqpy.outcome import Failure, Outcome
from kiqpy.reporter import Reporter
from kiqpy.store import Heartbeat
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock
from tests.faults import Faults, Faulty

QUEUE = "default"
ME = "me:1:a"


def payload(name: str = "noop", *args: object, jid: str = "j", **fields: object) -> bytes:
    """A job as Redis holds it."""
    job = {"class": name, "args": list(args), "queue": QUEUE, "jid": jid, "retry": True, **fields}
    return json.dumps(job).encode()


def claim(raw: bytes, delivery: int = 1) -> Claim:
    return Claim(QUEUE, delivery, raw)


class World:
    """One process on a store in memory, and everything it says."""

    def __init__(self, *reporters: Reporter) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.faults = Faults()
        self.backend = MemoryBackend(self.server, ME)
        self.store = Session(Faulty(self.backend, self.faults), self.clock, ("retry", "schedule"))
        self.bus = Bus()
        self.events: list[Event] = []
        self.bus.attach("*", self.events.append)
        self.dispatcher = ReporterDispatcher(reporters, self.bus)
        self.errors: list[StoreError] = []
        self.recoveries: list[str] = []
        self.pauses: list[tuple[str, bool]] = []
        self.failures: list[BaseException] = []
        self.take_lease()

    def take_lease(self, lease_s: float = 1e9) -> None:
        self.store.beat(Heartbeat("", 0, False, 0, {}, 0, (QUEUE,), lease_s))

    # -- Monitor

    def on_error(self, _queue: str, error: StoreError) -> None:
        self.errors.append(error)

    def on_recovery(self, queue: str) -> None:
        self.recoveries.append(queue)

    def on_pause(self, queue: str, paused: bool) -> None:
        self.pauses.append((queue, paused))

    def on_failure(self, error: BaseException) -> None:
        self.failures.append(error)

    # -- the store

    def put(self, *raws: bytes) -> None:
        """Into the queue, first one first."""
        self.server.queues[QUEUE].extendleft(raws)
        self.server.wake([QUEUE])

    def held(self) -> dict[int, bytes]:
        """This process's private hash."""
        return self.server.privates[ME, QUEUE]

    def source(self, queues: Sequence[str] = (QUEUE,), order: Order = strict) -> QueueSource:
        return QueueSource(queues, self.store, self, order)

    def pipeline(
        self, performer: Performer, limit: int = 3, source: QueueSource | None = None
    ) -> QueuePipeline:
        return QueuePipeline(
            source=source or self.source(),
            limit=limit,
            store=self.store,
            perform=performer,
            dispatcher=self.dispatcher,
            clock=self.clock,
            monitor=self,
        )

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def everywhere(self) -> Iterator[str]:
        """The jid of each job that is in the store, wherever it is."""
        server = self.server
        places = [
            *server.queues.values(), *(held.values() for held in server.privates.values()),
            *server.inboxes.values(),
            *([raw for _, raw in place.slice(0, len(place))] for place in server.places.values()),
        ]  # fmt: skip
        for place in places:
            for raw in place:
                yield json.loads(raw)["jid"]


class _Host(NamedTuple):
    """As much of a started app as the checks and gates use."""

    store: Session
    clock: FakeClock


def performer(
    world: World,
    *workers: Any,
    rules: Rules | None = None,
    timeout: float | None = None,
    threads: int = 4,
    processes: int = 2,
    **steps: Any,
) -> Performer:
    host: Any = _Host(world.store, world.clock)
    built_in = [Cancelling, Expiring, WorkerSlots, UniqueJobs]
    return Performer(
        registry=Registry(workers),
        executor=Executor(threads, processes, world.clock, world.bus),
        dispatcher=world.dispatcher,
        clock=world.clock,
        defaults=Defaults(rules or Rules(), timeout),
        steps=Composition(host, built_in).steps()._replace(**steps),
    )


async def outcome_of(world: World, perform: Performer, raw: bytes) -> Outcome:
    """How one job ends when nobody interrupts it."""
    return (await settlement_of(world, perform, raw)).outcome


async def settlement_of(world: World, perform: Performer, raw: bytes) -> Settlement:
    return await start(world, perform, raw)[1]


def start(world: World, perform: Performer, raw: bytes) -> tuple[Run, asyncio.Task[Settlement]]:
    run = Run(claim(raw), world.clock, Bus())
    task = asyncio.create_task(_concluded(run, perform))
    run.task = task  # type: ignore[assignment]
    return run, task


async def _concluded(run: Run, perform: Performer) -> Settlement:
    """As the consumer does it."""
    try:
        outcome = await perform(run)
    except BaseException as error:
        outcome = Failure(error)
    return run.end(outcome)

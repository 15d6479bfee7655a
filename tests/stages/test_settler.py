"""The settler retries until the store has a batch, then emits events, then returns credit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

import pytest

from kiqpy._flow.edge import Edge
from kiqpy._reporting.event_queue import EventQueue
from kiqpy._rules.decide import Rules
from kiqpy._stages.settlement import Settlement
from kiqpy._stages.settler import Settler
from kiqpy.errors import StoreRefused
from kiqpy.event import JobAborted, JobDead, JobFailure, JobFenced, JobStopped, JobSuccess
from kiqpy.job import decode
from kiqpy.outcome import RELEASED, SUCCESS, Aborted, Failure, Outcome, Verdict
from kiqpy.reporter import Reporter
from kiqpy.store import Frame
from kiqpy.testing import rest
from tests.stages.harness import QUEUE, World, payload

pytestmark = pytest.mark.anyio


class Slow:
    """A store whose settling waits for a gate, and that remembers the frames."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gate = asyncio.Event()
        self.gate.set()
        self.frames: list[Frame[Verdict]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.store, name)

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        self.frames.append(frame)
        await self.gate.wait()
        return await self.world.store.settle(frame)


class Desk:
    """A settler at work on an edge of settlements."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        self.store = Slow(world)
        self.source = world.source()
        self.edge: Edge[Settlement] = Edge(limit)
        self.event_queue = EventQueue(world.dispatcher)
        settler = Settler(self.store, world.dispatcher, world.clock, self.source, self.event_queue)
        self.task = asyncio.create_task(settler.run(self.edge, None))

    async def claims(self, n: int, **fields: Any) -> list[Settlement]:
        """Jobs that were claimed and have ended well."""
        self.world.put(*(payload(jid=f"j{k}", **fields) for k in range(n)))
        claims = await self.world.store.fetch(QUEUE, n)
        self.source.adopt(claims)
        return [
            Settlement(claim, decode(claim.raw), SUCCESS, Rules(), 0.5, 12.0) for claim in claims
        ]


@asynccontextmanager
async def desk(world: World, limit: int = 2000) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker.run()) for worker in world.dispatcher.workers]
        it = Desk(world, limit)
        group.create_task(it.event_queue.run())
        yield it
        it.store.gate.set()
        it.edge.close()
        await world.clock.advance(60)
        assert it.task.done()
        it.task.result()
        it.event_queue.close()
        for worker in world.dispatcher.workers:
            worker.edge.close()
        await asyncio.wait(workers) if workers else None


def ended(settlements: Sequence[Settlement], outcome: Outcome) -> list[Settlement]:
    return [settlement._replace(outcome=outcome) for settlement in settlements]


async def test_what_piles_up_while_a_frame_is_under_way_is_the_next_frame() -> None:
    async with desk(World()) as it:
        jobs = await it.claims(50)
        it.store.gate.clear()
        it.edge.offer(jobs[:1])
        await rest()
        for job in jobs[1:]:
            it.edge.offer([job])
        await rest()
        it.store.gate.set()
        await rest()
        assert [len(frame.items) for frame in it.store.frames] == [1, 49]
        assert not it.world.held()
        assert it.source.claimed(QUEUE) == set()


async def test_a_frame_is_bounded() -> None:
    async with desk(World()) as it:
        it.edge.offer(await it.claims(1100))
        await rest()
        assert [len(frame.items) for frame in it.store.frames] == [500, 500, 100]


async def test_a_frame_is_bounded_in_bytes_that_are_sent() -> None:
    large = ["x" * 400_000]
    async with desk(World()) as it:
        jobs = await it.claims(6, args=large)
        it.edge.offer([*ended(jobs[:5], Failure(ValueError("x"))), jobs[5]])
        await rest()
        assert [len(frame.items) for frame in it.store.frames] == [2, 2, 2]


async def test_what_goes_back_keeps_its_order_across_frames() -> None:
    async with desk(World()) as it:
        jobs = ended(await it.claims(1200), RELEASED)
        random.Random(7).shuffle(jobs)
        it.edge.offer(jobs)
        await rest()
        assert len(it.store.frames) == 3
        queue = it.world.server.queues[QUEUE]
        assert [decode(raw).jid for raw in reversed(queue)] == [f"j{n}" for n in range(1200)]


@pytest.mark.parametrize("how", ["before", "after"])
async def test_it_sends_the_same_frame_until_the_store_answers(
    how: Literal["before", "after"],
) -> None:
    world = World()
    async with desk(world) as it:
        world.faults.fail("settle", how, times=6)
        jobs = await it.claims(5)
        it.edge.offer(jobs[:3])
        later = jobs[3:]
        await world.clock.advance(0.1)
        it.edge.offer(later)
        await world.clock.advance(0.1)
        assert world.events == []
        assert it.edge.statistics().owed == 2  # of the frame that has not left
        await world.clock.advance(30)
        assert len(set(map(id, it.store.frames[:7]))) == 1
        assert len(it.store.frames) == 8
        assert len(world.told(JobSuccess)) == 5
        assert world.told(JobFenced) == []
        assert world.server.stats["processed"] == 5
        assert it.edge.statistics().owed == 0


async def test_what_is_no_longer_ours_changes_nothing_and_is_told_as_fenced() -> None:
    world = World()
    async with desk(world) as it:
        jobs = await it.claims(3)
        stolen = world.held().pop(jobs[1].claim.delivery)
        it.edge.offer(ended(jobs, Failure(ValueError("no"))))
        await rest()
        [fenced] = world.told(JobFenced)
        assert (fenced.job.jid, fenced.queue) == ("j1", QUEUE)
        assert [event.job.jid for event in world.told(JobFailure)] == ["j0", "j2"]
        assert stolen not in [entry.raw for entry in await world.backend.census.page("retry", 0, 9)]
        assert world.server.stats["failed"] == 2


class Gated(Reporter):
    """A reporter that takes one event and then waits."""

    limit: ClassVar[int] = 1
    overflow: ClassVar[Literal["block", "drop_oldest"]] = "block"

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def handle_success(self, job: Any, meta: JobSuccess) -> None:
        await self.gate.wait()


async def test_credit_comes_back_when_a_frame_leaves() -> None:
    async with desk(World()) as it:
        it.store.gate.clear()
        it.edge.offer(await it.claims(3))
        await rest()
        assert it.edge.statistics().owed == 0
        assert len(it.world.held()) == 3
        it.store.gate.set()


async def test_with_one_slot_credit_comes_back_when_the_job_is_settled() -> None:
    """A queue of one slot is serial: the next job starts after the ack of the one before."""
    async with desk(World(), limit=1) as it:
        it.store.gate.clear()
        it.edge.offer(await it.claims(1))
        await rest()
        assert it.edge.statistics().owed == 1
        it.store.gate.set()
        await rest()
        assert not it.world.held()
        assert it.edge.statistics().owed == 0


async def test_while_a_reporter_is_behind_credit_stays_and_all_is_settled() -> None:
    reporter = Gated()
    world = World(reporter)
    async with desk(world) as it:
        jobs = await it.claims(9)
        for n in range(0, 9, 3):
            it.edge.offer(jobs[n : n + 3])
            await rest()
        assert not world.held()
        assert it.edge.statistics().owed == 6  # all but the first frame's
        assert not reporter.gate.is_set()
        reporter.gate.set()
        await rest()
        assert it.edge.statistics().owed == 0


async def test_events_say_what_was_settled_and_the_last_is_stopped() -> None:
    world = World()
    async with desk(world) as it:
        jobs = await it.claims(4, enqueued_at=10.0)
        outcomes: list[Outcome] = [SUCCESS, Aborted("expired"), Failure(ValueError("no"), True)]
        it.edge.offer([s._replace(outcome=o) for s, o in zip(jobs, outcomes, strict=False)])
        it.edge.offer(ended(jobs[3:], RELEASED))
        await rest()
        names = [event.name for event in world.events]
        assert names == [
            "job.success", "job.stopped", "job.aborted", "job.stopped",
            "job.failure", "job.dead", "job.stopped", "job.stopped",
        ]  # fmt: skip
        [success], [aborted], [failure] = map(world.told, (JobSuccess, JobAborted, JobFailure))
        assert (success.took_s, success.waited_s) == (0.5, 1.5)
        assert aborted.reason == "expired"
        assert failure.retry_in_s is None
        [dead] = world.told(JobDead)
        assert decode(dead.raw).payload["error_message"] == "no"
        assert len(world.told(JobStopped)) == 4
        assert list(world.server.queues[QUEUE]) == [jobs[3].claim.raw]


async def test_bytes_that_are_no_job_are_buried_as_they_are() -> None:
    world = World()
    async with desk(world) as it:
        world.put(b"\xff not json")
        [claim] = await world.store.fetch(QUEUE, 1)
        outcome = Failure(ValueError("not JSON"), final=True)
        it.edge.offer([Settlement(claim, None, outcome, Rules(), 0.0, None)])
        await rest()
        [entry] = await world.backend.census.page("dead", 0, 9)
        assert entry.raw == b"\xff not json"
        [dead] = world.told(JobDead)
        assert dead.job is None


async def test_nobody_hears_costs_no_event() -> None:
    world = World()
    world.bus.detach(world.events.append)
    told: list[list[Any]] = []

    async def tell(events: list[Any]) -> None:
        told.append(events)

    world.dispatcher.tell = tell  # type: ignore[method-assign]
    async with desk(world) as it:
        it.edge.offer(await it.claims(3))
        await rest()
        assert told == []
        assert it.edge.statistics().owed == 0


async def test_a_refusal_breaks_the_stage() -> None:
    """An answer that is no can't be waited out: the queue starts anew."""
    world = World()
    async with desk(world) as it:
        world.server.settles.keep((world.store.ident, QUEUE), 99, [])
        it.edge.offer(await it.claims(1))
        with pytest.raises(StoreRefused, match="comes after 99"):
            await asyncio.wait_for(asyncio.shield(it.task), 5)
        it.task = asyncio.create_task(asyncio.sleep(0))

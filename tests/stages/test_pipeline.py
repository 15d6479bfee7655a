"""The three stages of a queue together: restart, give back, and find what was lost."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from kiqpy import Job, Reporter, worker
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy.errors import StoreRefused
from kiqpy.event import JobSuccess, QueueRestarted
from kiqpy.store import HeartbeatReply
from kiqpy.testing import rest
from tests.stages.harness import ME, QUEUE, World, payload, performer

pytestmark = pytest.mark.anyio

gate = asyncio.Event()


@worker
async def noop() -> None: ...


@worker
async def waits() -> None:
    await gate.wait()


def started(world: World, limit: int = 3) -> tuple[QueuePipeline, asyncio.Task[None]]:
    global gate
    gate = asyncio.Event()
    pipeline = world.pipeline(performer(world, noop, waits), limit)
    return pipeline, asyncio.create_task(pipeline.run())


def break_settling(world: World) -> None:
    """The store will answer the next settling with a final no: that is a defect of ours."""
    world.server.settles.keep((ME, QUEUE), 10_000, [])


def mend_settling(world: World) -> None:
    world.server.settles.keep((ME, QUEUE), 0, [])


async def test_a_broken_stage_starts_anew_and_what_it_had_in_hand_goes_back() -> None:
    world = World()
    world.put(payload("noop", jid="a"))
    break_settling(world)
    world.bus.attach("queue.restarted", lambda _event: mend_settling(world))
    world.faults.fail("holding", "before", times=2)
    pipeline, running = started(world)
    real_settle = world.store.settle

    async def settle(frame):  # type: ignore[no-untyped-def]
        try:
            return await real_settle(frame)
        except StoreRefused:
            mend_settling(world)
            raise

    world.store.settle = settle  # type: ignore[method-assign]
    await world.clock.advance(30)
    [restarted] = world.told(QueueRestarted)
    assert (restarted.queue, restarted.restarts) == (QUEUE, 1)
    assert "comes after 10000" in restarted.error
    assert [event.job.jid for event in world.told(JobSuccess)] == ["a"]
    assert not world.held()
    assert list(world.everywhere()) == []
    await pipeline.drain()
    await rest()
    assert running.done()


async def test_a_line_that_breaks_while_it_stops_claims_nothing_more() -> None:
    """It started anew with a producer that did not know of the stop, and never ended."""
    world = World()
    world.put(*(payload("waits", jid=f"j{n}") for n in range(5)))
    pipeline, running = started(world, limit=2)
    await rest()
    await pipeline.drain()
    real_settle = world.store.settle

    async def settle(frame):  # type: ignore[no-untyped-def]
        world.store.settle = real_settle  # type: ignore[method-assign]
        raise ZeroDivisionError

    world.store.settle = settle  # type: ignore[method-assign]
    gate.set()
    await world.clock.advance(10)
    assert len(world.told(QueueRestarted)) == 1
    assert running.done()
    assert len(list(world.everywhere())) == 5
    assert not world.held()
    assert world.told(JobSuccess) == []


async def test_a_claim_we_do_not_know_of_is_adopted_when_it_is_seen_twice() -> None:
    world = World()
    pipeline, running = started(world)
    await rest()
    world.held()[500] = payload("noop", jid="stray")
    orders = HeartbeatReply(None, {QUEUE: 1}, {QUEUE: 0})
    await pipeline.reconcile(orders)
    await rest()
    assert world.told(JobSuccess) == []
    await pipeline.reconcile(orders)
    await rest()
    assert [event.job.jid for event in world.told(JobSuccess)] == ["stray"]
    assert not world.held()
    await pipeline.drain()
    await rest()
    assert running.done()


async def test_a_job_in_the_inbox_of_a_full_line_goes_back_to_the_queue() -> None:
    world = World()
    world.put(payload("waits", jid="a"))
    pipeline, running = started(world, limit=1)
    await rest()
    world.server.inboxes[ME, QUEUE].append(payload("noop", jid="boxed"))
    await pipeline.reconcile(HeartbeatReply(None, {QUEUE: 1}, {QUEUE: 1}))
    assert len(world.server.queues[QUEUE]) == 1
    gate.set()
    await rest()
    assert [event.job.jid for event in world.told(JobSuccess)] == ["a", "boxed"]
    await pipeline.drain()
    await rest()
    assert running.done()


async def test_release_gives_jobs_back_in_their_order() -> None:
    world = World()
    world.put(*(payload("waits", jid=f"j{n}") for n in range(5)))
    pipeline, running = started(world, limit=3)
    await rest()
    await pipeline.drain()
    await pipeline.release(1.0)
    await rest()
    assert running.done()
    back = list(reversed(world.server.queues[QUEUE]))
    assert back == [payload("waits", jid=f"j{n}") for n in range(5)]


class Behind(Reporter):
    """Hears nothing until its gate opens."""

    limit: ClassVar[int] = 1

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.heard: list[str] = []

    async def handle_success(self, job: Job, meta: JobSuccess) -> None:
        await self.gate.wait()
        self.heard.append(job.jid)


async def test_what_is_settled_is_told_though_a_stage_breaks() -> None:
    """A restart lost what a blocking reporter had not heard yet, deaths among it."""
    reporter = Behind()
    world = World(reporter)
    jids = [f"j{n}" for n in range(6)]
    for n in (0, 3):
        world.put(*(payload("noop", jid=jid) for jid in jids[n : n + 3]))
    tasks = [asyncio.create_task(it.run()) for it in world.dispatcher.workers]
    pipeline, running = started(world, limit=20)
    await rest()
    assert world.server.stats["processed"] == 6
    assert reporter.heard == []
    real_settle, breaks = world.store.settle, iter([True])

    async def settle(frame):  # type: ignore[no-untyped-def]
        if next(breaks, False):
            raise StoreRefused("a defect")
        return await real_settle(frame)

    world.store.settle = settle  # type: ignore[method-assign]
    world.put(payload("noop", jid="late"))
    await world.clock.advance(1)
    assert world.told(QueueRestarted)
    reporter.gate.set()
    await world.clock.advance(10)
    await pipeline.drain()
    await world.clock.advance(10)
    await asyncio.wait_for(running, 5)
    assert reporter.heard == [*jids, "late"]
    for it in world.dispatcher.workers:
        it.edge.close()
    await asyncio.wait(tasks)

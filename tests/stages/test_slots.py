"""Jobs that wait for their worker's `max_concurrency` hold no slot of their queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kiqpy import worker
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy.event import JobCancelled, JobSuccess
from kiqpy.testing import rest
from tests.stages.harness import ME, QUEUE, World, payload, performer

pytestmark = pytest.mark.anyio
began: list[str] = []
gates: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


@worker(max_concurrency=1)
async def single(name: str) -> None:
    began.append(name)
    await gate(name).wait()


@worker
async def quick(name: str) -> None:
    began.append(name)


@worker
async def long(name: str) -> None:
    began.append(name)
    await gate(name).wait()


def singles(n: int) -> list[bytes]:
    return [payload("single", f"s{k}", jid=f"s{k}") for k in range(n)]


@asynccontextmanager
async def working(world: World, limit: int) -> AsyncIterator[QueuePipeline]:
    began.clear()
    gates.clear()
    pipeline = world.pipeline(performer(world, single, quick, long), limit)
    running = asyncio.create_task(pipeline.run())
    await rest()
    try:
        yield pipeline
    finally:
        await pipeline.drain()
        for _ in range(500):
            for held in gates.values():
                held.set()
            if running.done():
                break
            await rest()
        await running
        assert not world.held()


async def test_others_overtake_jobs_that_wait_for_their_worker() -> None:
    """Ten jobs of such a worker held up everything behind them in a queue of five."""
    world = World()
    world.put(*singles(10), payload("quick", "q", jid="q"))
    async with working(world, 5):
        assert began == ["s0", "q"]


async def test_they_run_in_order_and_one_at_a_time() -> None:
    world = World()
    world.put(*singles(10), payload("quick", "q", jid="q"))
    async with working(world, 5):
        for n in range(10):
            assert began == ["s0", "q", *(f"s{k}" for k in range(1, n + 1))]
            gate(f"s{n}").set()
            await rest()
    assert len(world.told(JobSuccess)) == 11


async def test_never_more_run_than_the_queue_lets() -> None:
    """A job whose worker is free again waits for a slot of the queue, and goes before new jobs."""
    world = World()
    world.put(*singles(2), *(payload("long", f"l{n}", jid=f"l{n}") for n in range(6)))
    async with working(world, 3) as pipeline:
        assert began == ["s0", "l0", "l1"]
        assert pipeline.statistics().running == 3
        gate("s0").set()
        await rest()
        assert began[3:] == ["s1"]
        gate("l0").set()
        await rest()
        assert began[3:] == ["s1", "l2"]
        assert pipeline.statistics().running == 3


async def test_a_process_does_not_hoard_them_without_bound() -> None:
    world = World()
    world.put(*singles(100))
    async with working(world, 2) as pipeline:
        assert pipeline.statistics().claimed <= 2 + 20 + 2
        assert len(world.server.queues[QUEUE]) >= 76
        for n in range(100):
            gate(f"s{n}").set()
            await rest()
        assert began == [f"s{n}" for n in range(100)]


async def test_one_that_is_cancelled_while_it_waits_ends_and_frees_nothing_twice() -> None:
    world = World()
    world.put(*singles(3))
    async with working(world, 2) as pipeline:
        pipeline.cancel({"s1": True})
        await rest()
        assert [event.job.jid for event in world.told(JobCancelled)] == ["s1"]
        world.put(*(payload("long", f"l{n}", jid=f"l{n}") for n in range(3)))
        await rest()
        assert began == ["s0", "l0"], "there are two slots, and they are taken"
        gate("s0").set()
        await rest()
        assert began == ["s0", "l0", "s2"]


async def test_at_a_release_all_that_wait_go_back_in_order() -> None:
    world = World()
    world.put(*singles(9))
    async with working(world, 2) as pipeline:
        assert len(world.server.privates[ME, QUEUE]) == 9
        await pipeline.drain()
        releasing = asyncio.create_task(pipeline.release(3.0))
        await world.clock.advance(5)
        await releasing
        assert list(reversed(world.server.queues[QUEUE])) == singles(9)
        world.server.queues[QUEUE].clear()

"""The producer claims as many jobs as are wanted, and survives a store that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kiqpy._flow.edge import Edge
from kiqpy._stages.producer import MAX_JOBS, Producer
from kiqpy.errors import LeaseLost, StoreUnavailable
from kiqpy.job import Claim
from kiqpy.testing import rest
from tests.stages.harness import ME, QUEUE, World, payload

pytestmark = pytest.mark.anyio


class Mill:
    """A producer at work on an edge."""

    def __init__(self, world: World, limit: int) -> None:
        self.edge: Edge[Claim] = Edge(limit)
        self.source = world.source()
        self.producer = Producer(self.source, world.clock, world)
        self.task = asyncio.create_task(self.producer.run(None, self.edge))

    async def took(self) -> list[bytes]:
        """What came out since the last time, now done with."""
        await rest()
        if not self.edge.statistics().waiting:
            return []
        claims = await self.edge.get() or []
        self.source.settled(QUEUE, [claim.delivery for claim in claims])
        self.edge.done(len(claims))
        return [claim.raw for claim in claims]


@asynccontextmanager
async def mill(world: World, limit: int = 3) -> AsyncIterator[Mill]:
    running = Mill(world, limit)
    try:
        yield running
    finally:
        world.faults.heal()
        running.producer.drain()
        await running.producer.wake()
        await world.clock.advance(10)
        assert running.task.done()
        assert running.edge.statistics().closed
        running.task.result()


JOBS = [payload(jid=f"j{n}") for n in range(10)]


async def test_it_never_claims_more_than_is_wanted() -> None:
    world = World()
    world.put(*JOBS)
    async with mill(world, 3) as it:
        await world.clock.advance(60)
        assert len(world.held()) == 3
        assert len(world.server.queues[QUEUE]) == 7
        assert it.edge.demand() == 0


async def test_it_claims_the_oldest_first_and_all_in_order() -> None:
    world = World()
    world.put(*JOBS)
    async with mill(world, 4) as it:
        seen: list[bytes] = []
        while batch := await it.took():
            assert len(batch) <= 4
            seen += batch
        assert seen == JOBS


async def test_a_fetch_asks_for_a_page_at_most() -> None:
    world = World()
    world.put(*(payload(jid=f"j{n}") for n in range(3 * MAX_JOBS)))
    async with mill(world, 1000):
        await rest()
        assert world.faults.calls["fetch"] == 4
        assert len(world.held()) == 3 * MAX_JOBS


async def test_a_job_that_comes_in_is_claimed_without_polling() -> None:
    world = World()
    async with mill(world) as it:
        assert await it.took() == []
        fetches = world.faults.calls["fetch"]
        world.put(JOBS[0])
        assert await it.took() == [JOBS[0]]
        assert world.faults.calls["fetch"] <= fetches + 2


async def test_an_idle_queue_costs_a_wait_every_four_seconds() -> None:
    world = World()
    async with mill(world):
        await world.clock.advance(400)
        assert world.faults.calls["wait"] <= 101
        assert world.faults.calls["fetch"] <= 101


async def test_nothing_is_asked_of_the_store_while_nothing_is_wanted() -> None:
    world = World()
    world.put(*JOBS)
    async with mill(world, 2):
        await rest()
        before = world.faults.calls.copy()
        await world.clock.advance(1000)
        assert world.faults.calls == before


async def test_quiet_ends_it_and_gives_back_what_a_wait_received() -> None:
    world = World()
    running = Mill(world, 3)
    await rest()
    world.server.inboxes[ME, QUEUE].append(JOBS[0])
    running.producer.drain()
    await running.producer.wake()
    await rest()
    assert running.task.done()
    assert await running.edge.get() is None
    assert list(world.server.queues[QUEUE]) == [JOBS[0]]
    assert not world.server.inboxes[ME, QUEUE]


async def test_quiet_ends_it_while_its_edge_is_full() -> None:
    world = World()
    world.put(*JOBS)
    running = Mill(world, 2)
    await rest()
    running.producer.drain()
    await running.producer.wake()
    await rest()
    assert running.task.done()
    assert len(world.held()) == 2


async def test_quiet_before_the_start_claims_nothing() -> None:
    world = World()
    world.put(*JOBS)
    producer = Producer(world.source(), world.clock, world)
    producer.drain()
    await producer.wake()
    edge: Edge[Claim] = Edge(3)
    await producer.run(None, edge)
    assert await edge.get() is None
    assert not world.held()


async def test_quiet_ends_it_while_the_store_is_away() -> None:
    world = World()
    world.faults.fail("fetch", "before", times=1000)
    world.faults.fail("unwait", "before", times=1000)
    running = Mill(world, 3)
    await world.clock.advance(20)
    running.producer.drain()
    await running.producer.wake()
    await rest()
    assert running.task.done()


async def test_a_paused_queue_is_left_alone_and_looked_at_each_second() -> None:
    world = World()
    world.server.paused.add(QUEUE)
    world.put(*JOBS)
    async with mill(world, 3):
        await world.clock.advance(10)
        assert not world.held()
        assert 9 <= world.faults.calls["fetch"] <= 12
        assert world.errors == []
        world.server.paused.clear()
        await world.clock.advance(1)
        assert len(world.held()) == 3


async def test_a_store_that_is_away_is_asked_less_and_less_often() -> None:
    world = World()
    world.put(*JOBS)
    world.faults.fail("fetch", "before", times=1000)
    async with mill(world, 3):
        await world.clock.advance(60)
        assert 12 <= world.faults.calls["fetch"] <= 30
        assert {type(error) for error in world.errors} == {StoreUnavailable}
        world.faults.heal()
        await world.clock.advance(5)
        assert len(world.held()) == 3


@pytest.mark.parametrize("call", ["fetch", "wait"])
async def test_the_end_of_an_outage_is_told_once(call: str) -> None:
    world = World()
    async with mill(world, 3):
        await world.clock.advance(10)
        assert world.recoveries == []
        world.faults.fail(call, "before", times=1000)
        await world.clock.advance(60)
        assert world.errors
        assert set(world.recoveries) <= ({QUEUE} if call == "wait" else set())
        world.faults.heal()
        world.recoveries.clear()
        await world.clock.advance(60)
        assert world.recoveries == [QUEUE]


async def test_a_pause_is_an_answer_too() -> None:
    world = World()
    async with mill(world, 3):
        world.faults.fail("fetch", "before")
        world.put(JOBS[0])
        world.server.paused.add(QUEUE)
        await world.clock.advance(10)
        assert len(world.errors) == len(world.recoveries) == 1


async def test_after_an_answer_the_back_off_is_short_again() -> None:
    world = World()
    world.faults.fail("fetch", "before", times=10)
    async with mill(world, 3):
        await world.clock.advance(60)
        world.put(JOBS[0])
        await rest()
        assert len(world.held()) == 1
        world.faults.fail("wait", "before")
        world.faults.fail("fetch", "before")
        world.put(JOBS[1])
        await world.clock.advance(0.2)
        assert len(world.held()) == 2


async def test_what_a_lost_reply_left_behind_is_found_by_the_next_fetch() -> None:
    world = World()
    world.put(*JOBS[:2])
    world.faults.fail("fetch", "after")
    async with mill(world, 3) as it:
        await world.clock.advance(1)
        assert await it.took() == JOBS[:2]


async def test_without_a_lease_nothing_is_claimed() -> None:
    world = World()
    world.take_lease(10)
    await world.clock.advance(11)
    world.put(*JOBS)
    async with mill(world, 3):
        await world.clock.advance(20)
        assert not world.held()
        assert {type(error) for error in world.errors} == {LeaseLost}
        world.take_lease()
        await world.clock.advance(5)
        assert len(world.held()) == 3


async def test_claims_that_the_store_has_on_record_are_adopted_once() -> None:
    world = World()
    world.put(*JOBS[:2])
    async with mill(world, 3) as it:
        assert await it.took() == JOBS[:2]
        stray = Claim(QUEUE, 77, JOBS[5])
        await it.producer.adopt([stray])
        await it.producer.adopt([stray])
        assert await it.took() == [JOBS[5]]
        assert await it.took() == []


async def test_adopted_claims_wait_for_demand_too() -> None:
    world = World()
    world.put(*JOBS[:2])
    async with mill(world, 2) as it:
        await rest()
        await it.producer.adopt([Claim(QUEUE, 77 + n, JOBS[n]) for n in range(4)])
        await rest()
        assert it.edge.statistics().owed == 2
        assert await it.took() == JOBS[:2]
        assert await it.took() == JOBS[:2]
        assert await it.took() == JOBS[2:4]


async def test_a_cancelled_producer_has_handed_on_what_it_claimed() -> None:
    world = World()
    world.put(*JOBS[:3])
    running = Mill(world, 3)
    while not world.faults.calls["fetch"]:  # noqa: ASYNC110  # turn by turn
        await asyncio.sleep(0)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    handed = await running.edge.get() or []
    assert {claim.delivery for claim in handed} == set(world.held())


@pytest.mark.parametrize("queues", [[QUEUE], [QUEUE, "other"]])
async def test_a_wake_up_between_a_fetch_and_its_wait_is_not_lost(queues: list[str]) -> None:
    """A pause was noticed four seconds late, if the call fell into the time of a fetch."""
    world = World()
    source = world.source(queues)
    fetch, gate = source.fetch, asyncio.Event()

    async def slowly(limit: int) -> list[Claim]:
        claims = await fetch(limit)
        await gate.wait()
        return claims

    source.fetch = slowly  # type: ignore[method-assign]
    producer = Producer(source, world.clock, world)
    task = asyncio.create_task(producer.run(None, Edge[Claim](3)))
    await rest()
    world.server.paused.update(queues)
    await producer.wake()
    gate.set()
    await rest()
    assert [pause for pause in world.pauses if pause[1]] == [(queue, True) for queue in queues]
    producer.drain()
    await rest()
    await task


async def test_a_wake_up_before_the_waits_for_several_queues_have_begun_is_not_lost() -> None:
    world = World()
    source = world.source([QUEUE, "other"])
    waiting = asyncio.create_task(source.wait(4.0))
    await asyncio.sleep(0)  # its own waits are tasks, and have not had a turn yet
    await source.unwait()
    await rest()
    assert waiting.done()
    await waiting

"""The consumer: one task for each claim, and one finish path for every way a job can end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kiqpy import worker
from kiqpy._flow.edge import Edge
from kiqpy._stages.consumer import CANCEL_S, Consumer
from kiqpy._stages.settlement import Settlement
from kiqpy.event import JobFailure, JobSuccess, JobSwallowedCancel
from kiqpy.job import Claim
from kiqpy.outcome import RELEASED, Aborted, Discard, Failure, Snooze, Snoozed, Success
from kiqpy.testing import rest
from tests.stages.harness import QUEUE, World, payload, performer

pytestmark = pytest.mark.anyio

gates: dict[str, asyncio.Event] = {}
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
seen: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    gates.clear()
    seen.clear()


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


@worker
async def returns(jid: str = "") -> str:
    return "result"


@worker
async def raises() -> None:
    raise ValueError("no")


@worker
async def cancels_itself() -> None:
    raise asyncio.CancelledError("of its own")


@worker
async def cancels_its_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


@worker
async def exits() -> None:
    raise SystemExit(3)


@worker
async def interrupts() -> None:
    raise KeyboardInterrupt


@worker
async def generator_exit() -> None:
    raise GeneratorExit


@worker
async def snoozes() -> Snooze:
    return Snooze(60)


@worker
async def discards() -> None:
    raise Discard("enough")


@worker(timeout=10)
async def sleeps() -> None:
    await asyncio.Event().wait()


@worker(timeout=10)
async def swallows(name: str) -> str:
    while not gate(name).is_set():
        try:
            await gate(name).wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
    return "in the end"


@worker
async def waits(name: str) -> None:
    await gate(name).wait()


@worker
async def cleans_up(name: str) -> None:
    try:
        await gate(name).wait()
    finally:
        await asyncio.sleep(0)
        seen.append("cleaned up")


@worker
async def marks(name: str) -> None:
    seen.append(where.get())
    where.set(name)


WORKERS = [
    returns, raises, cancels_itself, cancels_its_task, exits, interrupts, generator_exit,
    snoozes, discards, sleeps, swallows, waits, cleans_up, marks,
]  # fmt: skip


class Shop:
    """A consumer at work between two edges that share their credit."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        self.claims: Edge[Claim] = Edge(limit)
        self.settlements: Edge[Settlement] = Edge(limit, source=self.claims)
        self.consumer = Consumer(performer(world, *WORKERS), world.clock, world.bus)
        self.task = asyncio.create_task(self.consumer.run(self.claims, self.settlements))
        self.number = 0

    async def run(self, name: str, *args: object) -> None:
        """Hand a job over and let it come as far as it does."""
        self.number += 1
        raw = payload(name, *args, jid=f"j{self.number}")
        self.claims.offer([Claim(QUEUE, self.number, raw)])
        await rest()

    async def ended(self) -> list[Settlement]:
        await rest()
        if not self.settlements.statistics().waiting:
            return []
        batch = await self.settlements.get() or []
        self.settlements.done(len(batch))
        return batch

    def exact(self) -> bool:
        """What is owed is what runs and what waits to be settled."""
        waiting = self.settlements.statistics().waiting
        return self.claims.statistics().owed == len(self.consumer.running) + waiting


@asynccontextmanager
async def shop(world: World, limit: int = 3) -> AsyncIterator[Shop]:
    it = Shop(world, limit)
    try:
        yield it
    finally:
        it.claims.close()
        for one in gates.values():
            one.set()
        await rest()
        assert it.task.done()
        it.task.result()
        assert not it.consumer.running
        assert it.settlements.statistics().closed


def failure(kind: type[BaseException]) -> Callable[[Any], bool]:
    return lambda outcome: isinstance(outcome, Failure) and type(outcome.error) is kind


ENDS = [
    ("returns", Success("result").__eq__),
    ("raises", failure(ValueError)),
    ("cancels_itself", failure(asyncio.CancelledError)),
    ("cancels_its_task", failure(asyncio.CancelledError)),
    ("exits", failure(SystemExit)),
    ("interrupts", failure(KeyboardInterrupt)),
    ("generator_exit", failure(GeneratorExit)),
    ("snoozes", Snoozed(60).__eq__),
    ("discards", Aborted("enough").__eq__),
]


@pytest.mark.parametrize(("name", "expected"), ENDS, ids=[name for name, _ in ENDS])
async def test_however_a_job_ends_by_itself_its_slot_comes_back(
    name: str, expected: Callable[[Any], bool]
) -> None:
    async with shop(World()) as it:
        await it.run("waits", "x")
        await it.run(name)
        assert it.exact()
        assert len(it.consumer.running) == 1
        ended = await it.ended()
        assert [settlement.claim.delivery for settlement in ended] == [2]
        assert expected(ended[0].outcome)
        assert it.claims.demand() == 2
        assert it.exact()


async def test_a_timeout_cancels_the_job_and_is_its_failure() -> None:
    world = World()
    async with shop(world) as it:
        await it.run("sleeps")
        await world.clock.advance(9.9)
        assert await it.ended() == []
        await world.clock.advance(0.2)
        [settlement] = await it.ended()
        assert isinstance(settlement.outcome, Failure)
        assert type(settlement.outcome.error) is TimeoutError
        assert "longer than its timeout, and was stopped after 10 s" in str(
            settlement.outcome.error
        )
        assert settlement.took_s == 10.0
        await world.clock.advance(60)
        assert world.told(JobSwallowedCancel) == []


async def test_the_timeout_of_a_job_that_has_ended_does_nothing() -> None:
    world = World()
    async with shop(world) as it:
        gate("x").set()
        await it.run("swallows", "x")
        [settlement] = await it.ended()
        assert settlement.outcome == Success("in the end")
        await world.clock.advance(60)
        assert world.told(JobSwallowedCancel) == []
        assert seen == []


async def test_a_job_that_swallows_its_cancellation_is_told_and_keeps_its_slot() -> None:
    world = World()
    async with shop(world, 1) as it:
        await it.run("swallows", "x")
        await world.clock.advance(10)
        assert seen == ["cancelled"]
        assert world.told(JobSwallowedCancel) == []
        await world.clock.advance(5)
        [told] = world.told(JobSwallowedCancel)
        assert (told.job.jid, told.after_s) == ("j1", 5.0)
        assert it.claims.demand() == 0
        await world.clock.advance(600)
        assert len(world.told(JobSwallowedCancel)) == 1
        gate("x").set()
        [settlement] = await it.ended()
        assert settlement.outcome == Success("in the end")
        assert it.claims.demand() == 1


async def test_release_cancels_and_gives_back_what_cleans_up_in_time() -> None:
    world = World()
    async with shop(world) as it:
        await it.run("cleans_up", "x")
        await it.consumer.release(CANCEL_S)
        [settlement] = await it.ended()
        assert settlement.outcome == RELEASED
        assert seen == ["cleaned up"]
        assert it.exact()


async def test_release_gives_back_what_hangs_and_ignores_how_it_ends() -> None:
    world = World()
    async with shop(world) as it:
        await it.run("swallows", "x")
        releasing = asyncio.create_task(it.consumer.release(CANCEL_S))
        await world.clock.advance(CANCEL_S - 0.1)
        assert not releasing.done()
        await world.clock.advance(0.2)
        assert releasing.done()
        [settlement] = await it.ended()
        assert settlement.outcome == RELEASED
        assert not it.consumer.running
        assert it.claims.demand() == 3
        gate("x").set()
        assert await it.ended() == []
        assert it.claims.demand() == 3


async def test_a_job_that_ends_well_while_it_is_released_has_ended_well() -> None:
    world = World()
    async with shop(world) as it:
        await it.run("swallows", "x")
        releasing = asyncio.create_task(it.consumer.release(CANCEL_S))
        await rest()
        gate("x").set()
        await releasing
        [settlement] = await it.ended()
        assert settlement.outcome == Success("in the end")


async def test_the_first_reason_to_cancel_counts() -> None:
    world = World()
    async with shop(world) as it:
        await it.run("swallows", "x")
        await world.clock.advance(10)
        (run,) = it.consumer.running
        run.cancel("released")
        assert run.why == "timeout"
        assert seen == ["cancelled"]
        gate("x").set()


async def test_it_ends_when_what_runs_has_ended() -> None:
    async with shop(World()) as it:
        await it.run("waits", "x")
        it.claims.close()
        await rest()
        assert not it.task.done()
        gate("x").set()
        assert len(await it.ended()) == 1
        assert it.task.done()


async def test_what_ends_in_one_turn_of_the_loop_is_one_batch() -> None:
    async with shop(World(), 50) as it:
        for _ in range(40):
            await it.run("waits", "x")
        gate("x").set()
        while not it.settlements.statistics().waiting:  # noqa: ASYNC110  # turn by turn
            await asyncio.sleep(0)
        assert it.settlements.statistics().waiting == 40
        assert len(await it.ended()) == 40


async def test_each_job_has_context_variables_of_its_own() -> None:
    async with shop(World()) as it:
        where.set("here")
        await it.run("marks", "a")
        await it.run("marks", "b")
        assert len(await it.ended()) == 2
        assert "a" not in seen
        assert where.get() == "here"


async def test_a_cancelled_consumer_gives_back_what_runs() -> None:
    world = World()
    it = Shop(world, 3)
    await it.run("cleans_up", "x")
    await it.run("swallows", "y")
    it.task.cancel()
    await world.clock.advance(CANCEL_S + 1)
    assert it.task.cancelled()
    assert not it.consumer.running
    assert seen == ["cancelled", "cleaned up"] or seen == ["cleaned up", "cancelled"]
    gate("y").set()
    await rest()


async def test_a_line_settles_each_job_exactly_once_however_they_end() -> None:
    """All of it together: three slots, thirty jobs, every way to end."""
    world = World()
    pipeline = world.pipeline(performer(world, *WORKERS), 3)
    running = asyncio.create_task(pipeline.run())
    names = [name for name, _ in ENDS] + ["sleeps"]
    world.put(*(payload(names[n % len(names)], jid=f"j{n}") for n in range(30)))
    for _ in range(100):
        await world.clock.advance(1)
        claimed = pipeline.statistics().claimed
        assert claimed == len(world.held())
        assert claimed <= 3
        assert pipeline.statistics().running <= claimed
    assert not world.server.queues[QUEUE]
    assert not world.held()
    done = {event.job.jid for event in world.told(JobSuccess)}
    assert done == {"j0", "j10", "j20"}
    assert len(world.told(JobFailure)) == 21
    assert sorted(world.everywhere()) == sorted(
        f"j{n}" for n in range(30) if names[n % len(names)] not in ("returns", "discards")
    )
    assert pipeline.statistics() == (3, 0, 0)
    await pipeline.drain()
    await rest()
    assert running.done()


async def test_a_line_tells_of_a_swallowed_cancellation() -> None:
    world = World()
    pipeline = world.pipeline(performer(world, *WORKERS), 1)
    running = asyncio.create_task(pipeline.run())
    world.put(payload("swallows", "x"))
    await world.clock.advance(16)
    [event] = world.told(JobSwallowedCancel)
    assert (event.job.jid, event.after_s) == ("j", 5.0)
    gate("x").set()
    await pipeline.drain()
    await rest()
    assert running.done()

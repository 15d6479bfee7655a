"""Cancels and lost replies: a cancelled job never finishes, and no job is lost."""

from __future__ import annotations

import asyncio
import json

import pytest

from kiqpy import worker
from kiqpy._loops.cancel import Canceller
from kiqpy.event import JobCancelled, JobSuccess, QueueRestarted
from kiqpy.store.census import CANCELS_KEPT_S
from kiqpy.testing import rest
from tests.stages.harness import ME, QUEUE, World, payload, performer

pytestmark = pytest.mark.anyio

started: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    started.clear()


@worker
async def endless(n: int) -> None:
    started.append(n)
    await asyncio.Event().wait()


@worker
async def noop(n: int) -> None:
    started.append(n)


class House:
    """A pipeline, and the loop that looks for cancels, ticked by hand."""

    def __init__(self, limit: int = 3) -> None:
        self.world = World()
        self.pipeline = self.world.pipeline(performer(self.world, endless, noop), limit)
        self.canceller = Canceller(self.world.store, self.pipeline)

    async def start(self) -> None:
        self.task = asyncio.create_task(self.pipeline.run())
        await rest()

    async def cancel(self, jid: str, keep: bool = True) -> None:
        await self.world.store.census.cancel(jid, keep)

    def cancelled(self) -> list[str]:
        return [event.job.jid for event in self.world.told(JobCancelled)]

    async def stop(self) -> None:
        self.world.faults.heal()
        await self.pipeline.drain()
        await self.pipeline.release(1.0)
        await self.world.clock.advance(10)
        self.task.result()
        assert not self.world.held()
        assert self.world.told(QueueRestarted) == []

    def dead(self) -> list[str]:
        place = self.world.server.places["dead"]
        return [json.loads(raw)["jid"] for _, raw in place.slice(0, len(place))]


@pytest.mark.parametrize("how", ["before", "after", "late"])
async def test_cancelled_before_a_fetch_whose_answer_is_lost(how: str) -> None:
    """The next fetch found the job and not the news that it was cancelled: it was run."""
    house = House()
    await house.start()
    await house.cancel("j")
    house.world.faults.fail("fetch", how)  # type: ignore[arg-type]
    house.world.put(payload("noop", 1, jid="j"))
    await house.world.clock.advance(1)
    await house.world.faults.release()
    await house.world.clock.advance(5)
    assert started == []
    assert house.cancelled() == house.dead() == ["j"]
    await house.stop()


@pytest.mark.parametrize("times", [1, 3])
async def test_when_nobody_says_what_was_cancelled_the_job_runs_until_somebody_does(
    times: int,
) -> None:
    """The claim is ours and must not be lost for it; the next look finds the cancel."""
    house = House()
    await house.start()
    await house.cancel("j")
    house.world.faults.fail("marks", "before", times=times)
    house.world.put(payload("endless", 1, jid="j"), payload("noop", 2, jid="k"))
    await rest()
    assert sorted(started) == ([2] if times == 1 and not house.pipeline.runs() else [1, 2])
    house.world.faults.heal()
    await house.canceller.tick()
    await rest()
    assert house.cancelled() == house.dead() == ["j"]
    assert [event.job.jid for event in house.world.told(JobSuccess)] == ["k"]
    await house.stop()


async def test_two_looks_at_once_bring_back_no_cancel_that_was_heeded() -> None:
    house = House()
    await house.start()
    real, gate = house.world.backend.marks, asyncio.Event()
    await house.cancel("j")

    async def marks(after: float) -> list[tuple[str, float]]:
        found = await real(after)
        await gate.wait()
        return found

    house.world.backend.marks = marks  # type: ignore[method-assign]
    slow = asyncio.ensure_future(house.world.store.refresh_cancelled())
    await rest()
    house.world.backend.marks = real  # type: ignore[method-assign]
    await house.world.store.refresh_cancelled()
    assert house.world.store.cancelled.pop("j") is True  # as a run does that heeds it
    gate.set()
    await slow
    assert house.world.store.cancelled == {}
    await house.stop()


async def test_the_loop_asks_nothing_while_nothing_runs() -> None:
    house = House()
    await house.start()
    await house.cancel("j")
    for _ in range(10):
        assert await house.canceller.tick() <= 0.8
    assert house.world.faults.calls["marks"] == 0
    house.world.put(payload("endless", 1, jid="k"))
    await rest()
    calls = house.world.faults.calls["marks"]
    for _ in range(10):
        await house.canceller.tick()
    assert house.world.faults.calls["marks"] == calls + 10
    await house.stop()


async def test_a_process_forgets_cancels_as_the_store_does() -> None:
    """Each cancel of months stayed in the memory of every process."""
    world = World()
    store, clock = world.store, world.clock
    for n in range(20):
        await store.census.cancel(f"old-{n}", n % 2 == 0)
    await store.refresh_cancelled()
    assert len(store.cancelled) == 20
    await clock.advance(CANCELS_KEPT_S / 2)
    await store.census.cancel("young", True)
    await store.census.cancel("old-3", True)  # once more: so it is young
    await store.refresh_cancelled()
    await clock.advance(CANCELS_KEPT_S / 2 + 10)
    await store.census.cancel("new", False)
    await store.refresh_cancelled()
    assert store.cancelled == {"young": True, "old-3": True, "new": False}
    assert len(store._marks) == 3


async def test_a_settling_without_an_answer_cancels_once() -> None:
    for how in ("before", "after", "late"):
        house = House()
        house.world.put(payload("endless", 1, jid="j"))
        await house.start()
        await house.cancel("j")
        house.world.faults.fail("settle", how, times=2)  # type: ignore[arg-type]
        await house.canceller.tick()
        await house.world.clock.advance(5)
        await house.world.faults.release()
        assert house.cancelled() == house.dead() == ["j"]
        assert house.world.server.stats["processed"] == 1
        await house.stop()


async def test_a_cancel_at_any_moment_leaves_the_job_in_one_place() -> None:
    """While it is fetched, starts, runs, ends or is settled: dead or done, once."""
    for k in range(30):
        house = House()
        house.task = asyncio.create_task(house.pipeline.run())
        house.world.put(payload("noop", 1, jid="j"))
        for _ in range(k):
            await asyncio.sleep(0)
        await house.cancel("j")
        await house.canceller.tick()
        await rest()
        done = [event.job.jid for event in house.world.told(JobSuccess)]
        assert done + house.cancelled() == ["j"]
        assert house.dead() == house.cancelled()
        assert not house.world.server.privates[ME, QUEUE]
        await house.stop()

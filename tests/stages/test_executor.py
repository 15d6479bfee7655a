"""More jobs than threads or child processes: they wait, and their time does not run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kiqpy import worker
from kiqpy.event import ExecutorExhausted, JobFailure, JobStarted, JobSuccess
from kiqpy.testing import rest
from tests.eventually import eventually
from tests.stages import children
from tests.stages.harness import World, payload, performer

pytestmark = pytest.mark.anyio
doors: list[threading.Event] = []


@worker(timeout=2)
def blocks(n: int) -> None:
    doors[n].wait(60)


@pytest.fixture(autouse=True)
def closed_doors() -> Iterator[None]:
    doors[:] = [threading.Event() for _ in range(8)]
    yield
    for door in doors:
        door.set()


@asynccontextmanager
async def working(world: World, jobs: int, *workers: Any, **options: int) -> AsyncIterator[None]:
    """A queue with a slot for each job."""
    pipeline = world.pipeline(performer(world, *workers, **options), jobs)
    running = asyncio.create_task(pipeline.run())
    try:
        yield
    finally:
        await pipeline.drain()
        await running


async def have(world: World, kind: type[Any], jobs: int) -> None:
    await eventually(lambda: len(world.told(kind)) >= jobs, f"{jobs} x {kind.__name__}")
    await rest()
    assert len(world.told(kind)) == jobs


async def none_times_out(
    world: World, at_once: int, takes_s: float, finish: Callable[[int], None]
) -> None:
    """Six jobs, `at_once` at a time; each takes `takes_s`, nearly its timeout."""
    for begun in range(at_once, 7, at_once):
        await have(world, JobStarted, begun)
        await world.clock.advance(takes_s)
        for n in range(begun - at_once, begun):
            finish(n)
        await have(world, JobSuccess, begun)
    assert world.told(JobFailure) == []


async def test_no_job_times_out_while_it_waits_for_a_thread() -> None:
    """35 of 75 good jobs failed, in 75 slots on 40 threads: their time ran while they waited."""
    world = World()
    world.put(*(payload("blocks", n, jid=f"j{n}") for n in range(6)))
    async with working(world, 6, blocks, threads=2):
        await none_times_out(world, 2, 1.2, lambda n: doors[n].set())


async def test_no_job_times_out_while_it_waits_for_a_child(tmp_path: Path) -> None:
    """Six of twelve good jobs failed, on two children."""
    world = World()
    files = [tmp_path / str(n) for n in range(6)]
    world.put(*(payload("waits_for", str(file), jid=file.name) for file in files))
    async with working(world, 6, children.waits_for, processes=2):
        await none_times_out(world, 2, 4.0, lambda n: files[n].touch())


async def test_an_exhausted_pool_is_told_once_until_no_job_waits() -> None:
    """Two jobs that hung on two threads starved all others, and nobody saw it."""
    world = World()
    world.put(*(payload("blocks", n, jid=f"j{n}") for n in range(4)))
    async with working(world, 8, blocks, threads=2):
        await have(world, JobStarted, 2)
        await world.clock.advance(4.9)
        assert world.told(ExecutorExhausted) == []
        await world.clock.advance(60)
        assert world.told(ExecutorExhausted) == [ExecutorExhausted("thread", 2, 2)]
        doors[0].set()
        await have(world, JobStarted, 3)
        await world.clock.advance(60)
        assert len(world.told(ExecutorExhausted)) == 1, "j3 waits since then"
        doors[1].set()
        await have(world, JobStarted, 4)
        world.put(payload("blocks", 4, jid="j4"))
        await eventually(lambda: len(world.held()) == 3, "j4 to be claimed")
        await rest()
        await world.clock.advance(60)
        assert len(world.told(ExecutorExhausted)) == 2
        for door in doors:
            door.set()


async def test_jobs_that_each_wait_a_little_are_no_exhaustion() -> None:
    world = World()
    world.put(*(payload("blocks", n, jid=f"j{n}") for n in range(6)))
    async with working(world, 6, blocks, threads=2):
        await none_times_out(world, 2, 1.9, lambda n: doors[n].set())
    assert world.told(ExecutorExhausted) == []

"""Plain workers in a running app: how many of their jobs it claims."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kiqpy import App, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
door = threading.Event()


@worker
def blocks() -> None:
    door.wait(60)


@worker
async def passes() -> None: ...


@pytest.fixture(autouse=True)
def closed_door() -> Iterator[None]:
    door.clear()
    yield
    door.set()


async def test_no_more_plain_jobs_are_claimed_than_there_are_threads(clean: TestServer) -> None:
    """What waited for a thread here could not be run by another process."""
    async with App(redis_url=clean.url, workers=[blocks], threads=2) as jobs:
        assert jobs.subscriptions() == {"default": 2}
        jobs.scale("default", 4)
        assert jobs.subscriptions() == {"default": 2}
        await jobs.enqueue_many([blocks.new() for _ in range(5)])
        await eventually(lambda: clean.cli("LLEN", "queue:default") == 3, "two to be claimed")
        await jobs.wake()
        assert clean.cli("LLEN", "queue:default") == 3
        door.set()
        await eventually(lambda: clean.cli("GET", "stat:processed") == "5", "all to be done")


async def test_a_worker_that_needs_no_thread_is_not_bounded(clean: TestServer) -> None:
    async with App(redis_url=clean.url, workers=[blocks, passes], threads=1) as jobs:
        assert jobs.subscriptions() == {"default": 25}
        await jobs.enqueue_many([blocks.new(), blocks.new(), passes.new()])
        await eventually(lambda: clean.cli("GET", "stat:processed") == "1", "the quick one")
        door.set()
        await eventually(lambda: clean.cli("GET", "stat:processed") == "3", "all to be done")

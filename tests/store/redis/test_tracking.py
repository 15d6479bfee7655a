"""Queues beyond the eighth: woken by the server's hints, and found without them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kiqpy.clock import SystemClock
from kiqpy.store.redis.connections import Connections, SingleServer
from kiqpy.store.redis.tracking import Tracker
from tests.server import TestServer, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tracker(redis_url: str) -> AsyncIterator[Tracker]:
    connections = Connections(SingleServer(redis_url, {}), 2)
    tracker = Tracker(connections, "queue:", 0.05, SystemClock())
    await tracker.wait("queue:a", 0.01)
    await asyncio.to_thread(until, lambda: tracker.live, "the tracker listens", 5)
    yield tracker
    await tracker.close()
    await connections.close()


async def ends(tracker: Tracker, key: str, within_s: float) -> bool:
    """Whether a wait for `key` ends in time."""
    try:
        async with asyncio.timeout(within_s):
            await tracker.wait(key, 60)
    except TimeoutError:
        return False
    return True


async def test_a_push_ends_a_wait(tracker: Tracker, server: TestServer) -> None:
    await ends(tracker, "queue:a", 0.05)
    waiting = asyncio.create_task(ends(tracker, "queue:a", 5))
    await asyncio.to_thread(server.cli, "LPUSH", "queue:a", "x")
    assert await waiting


async def test_a_push_before_the_wait_is_not_missed(tracker: Tracker, server: TestServer) -> None:
    await ends(tracker, "queue:a", 0.05)
    await asyncio.to_thread(server.cli, "LPUSH", "queue:a", "x")
    await asyncio.to_thread(until, tracker._changed["queue:a"].is_set, "the hint arrives", 5)
    assert await ends(tracker, "queue:a", 0)


async def test_another_queue_does_not_wake(tracker: Tracker, server: TestServer) -> None:
    await ends(tracker, "queue:a", 0.05)
    await ends(tracker, "queue:b", 0.05)
    await asyncio.to_thread(server.cli, "LPUSH", "queue:b", "x")
    assert await ends(tracker, "queue:b", 5)
    assert not await ends(tracker, "queue:a", 0.05)


async def test_wake_ends_a_wait(tracker: Tracker) -> None:
    await ends(tracker, "queue:a", 0.05)
    waiting = asyncio.create_task(ends(tracker, "queue:a", 5))
    tracker.wake("queue:a")
    assert await waiting


async def test_without_hints_waits_are_short(tracker: Tracker, server: TestServer) -> None:
    """Its connection is cut: until it listens again, a wait lasts `poll_s` and no longer."""
    await ends(tracker, "queue:a", 0.05)
    await asyncio.to_thread(server.cli, "CLIENT", "KILL", "TYPE", "pubsub")
    await asyncio.to_thread(until, lambda: not tracker.live, "the cut is noticed", 5)
    assert await ends(tracker, "queue:a", 5)
    await asyncio.to_thread(until, lambda: tracker.live, "the tracker listens again", 10)

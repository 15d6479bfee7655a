"""A server at its `maxmemory` is emptied by its workers; only what is enqueued waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from kiqpy import App, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ran: list[int] = []


@worker(name="takes", queue="much")
async def takes(n: int) -> None:
    ran.append(n)


class Jobs(App):
    queues = {"much": 10}
    workers = [takes]
    poll_interval = 0.1


@pytest.fixture
def full(clean: TestServer) -> Iterator[TestServer]:
    """500 jobs in the queue, one that is due, and no memory left."""
    ran.clear()
    for n in range(501):
        job = json.dumps({"class": "takes", "args": [n], "queue": "much", "jid": f"j{n}"})
        command = ("LPUSH", "queue:much") if n else ("ZADD", "schedule", 1)
        clean.cli(*command, job)
    clean.cli("CONFIG", "SET", "maxmemory", 1)
    yield clean
    clean.cli("CONFIG", "SET", "maxmemory", 0)


async def test_a_full_server_is_emptied_and_only_pushes_wait(
    redis_url: str, full: TestServer
) -> None:
    jobs = Jobs(redis_url=redis_url)
    heard: list[Any] = []
    for pattern in ("fetch.failed", "flush.failed", "loop.failed", "queue.restarted"):
        jobs.attach(pattern, heard.append)
    async with jobs:
        late = asyncio.ensure_future(jobs.enqueue(takes.new(1000)))
        await eventually(lambda: len(ran) == 501, "all that was there")
        await eventually(lambda: heard, "a word of the push that waits")
        assert not late.done()
        full.cli("CONFIG", "SET", "maxmemory", 0)
        await late
        await eventually(lambda: len(ran) == 502, "the late one")
    assert sorted(ran) == [*range(501), 1000]
    assert [event.name for event in heard] == ["flush.failed"]
    assert "is full" in heard[0].error

"""Another program has stored something else under one of Sidekiq's names: only queues wait."""

from __future__ import annotations

from typing import Any

import pytest

from kiqpy import App, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ran: list[int] = []


@worker(name="fails", queue="bad", retry=3, backoff=lambda _job, _n: 3600)
async def fails() -> None:
    raise RuntimeError("as ever")


@worker(name="works", queue="good")
async def works(n: int) -> None:
    ran.append(n)


class Jobs(App):
    queues = {"bad": 2, "good": 2}
    workers = [fails, works]


async def test_a_wrong_retry_set_holds_up_its_queue_and_says_so_once(
    redis_url: str, clean: TestServer
) -> None:
    ran.clear()
    jobs = Jobs(redis_url=redis_url)
    heard: list[Any] = []
    jobs.attach("fetch.*", heard.append)
    jobs.attach("queue.restarted", heard.append)
    clean.cli("SET", "retry", "another program's")
    async with jobs:
        for _ in range(5):
            await jobs.enqueue(fails.new())
        await eventually(lambda: heard, "a word of it")
        for n in range(3):
            await jobs.enqueue(works.new(n))
        await eventually(lambda: len(ran) == 3, "the other queue to go on")
        assert clean.cli("LLEN", "queue:bad") != 0, "nothing more is claimed meanwhile"
        clean.cli("DEL", "retry")
        await eventually(lambda: clean.cli("ZCARD", "retry") == 5, "all to be put off")
    assert [event.name for event in heard if event.queue == "bad"] == [
        *("fetch.failed", "fetch.restored")
    ]
    assert "WRONGTYPE retry" in heard[0].error


async def test_a_loop_that_is_refused_says_so_once_and_goes_on_later(
    redis_url: str, clean: TestServer
) -> None:
    """Due jobs waited in a schedule beside a wrong retry set, and nobody was told."""
    ran.clear()
    jobs = Jobs(redis_url=redis_url, poll_interval=0.01)
    heard: list[Any] = []
    jobs.attach("loop.failed", heard.append)
    clean.cli("SET", "retry", "another program's")
    async with jobs:
        await eventually(lambda: heard, "a word of it")
        for n in range(3):
            await jobs.enqueue(works.new(n), in_=0.01)
            await eventually(lambda n=n: len(ran) == n + 1, "the schedule to be promoted")
        clean.cli("DEL", "retry")
    assert [event.loop for event in heard] == ["promote"]
    assert "WRONGTYPE retry" in heard[0].error

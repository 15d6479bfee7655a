"""A server whose limits are below one payload: that job is refused by name, its neighbours run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from kiqpy import App, StoreRefused, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

LIMITS = ("client-query-buffer-limit", "proto-max-bulk-len")
ran: list[int] = []


@worker(name="weighs", queue="large")
async def weighs(n: int, text: str = "") -> None:
    ran.append(n)


class Jobs(App):
    queues = {"large": 3}
    workers = [weighs]
    max_payload = 4_000_000


@pytest.fixture(params=LIMITS)
def strict(request: pytest.FixtureRequest, clean: TestServer) -> Iterator[TestServer]:
    """A server that takes a mebibyte, and hangs up on more; what it says before may be lost."""
    ran.clear()
    before = clean.cli("CONFIG", "GET", request.param)
    assert isinstance(before, list)
    clean.cli("CONFIG", "SET", request.param, 2**20)
    yield clean
    clean.cli("CONFIG", "SET", request.param, str(before[1]))


async def test_a_payload_beyond_the_servers_limit_holds_up_no_other(
    redis_url: str, strict: TestServer
) -> None:
    jobs = Jobs(redis_url=redis_url)
    refused: list[Any] = []
    jobs.attach("job.refused", refused.append)
    async with jobs:
        texts = ["x" * 1_500_000 if n == 5 else "" for n in range(8)]
        jids = [jobs.enqueue_nowait(weighs.new(n, text)).jid for n, text in enumerate(texts)]
        await eventually(lambda: len(ran) == 7, "its neighbours to run")
        await eventually(lambda: refused, "a word of it")
    assert [event.jid for event in refused] == [jids[5]]
    assert "proto-max-bulk-len" in refused[0].error
    assert sorted(ran) == [0, 1, 2, 3, 4, 6, 7]


async def test_who_waits_for_it_gets_the_reason_and_who_waits_beside_it_a_receipt(
    redis_url: str, strict: TestServer
) -> None:
    async with Jobs(redis_url=redis_url) as jobs:
        large = weighs.new(0, "x" * 1_500_000)
        pushes = [jobs.enqueue(weighs.new(n)) for n in range(1, 5)]
        first, *others = await asyncio.gather(jobs.enqueue(large), *pushes, return_exceptions=True)
        assert isinstance(first, StoreRefused)
        assert "is not enqueued" in str(first)
        assert [getattr(each, "state", each) for each in others] == ["queued"] * 4
        trio = [weighs.new(5), weighs.new(6, "x" * 1_500_000), weighs.new(7)]
        with pytest.raises(StoreRefused, match="1 of 3 jobs"):
            await jobs.enqueue_many(trio, atomic=False)
        await eventually(lambda: sorted(ran) == [1, 2, 3, 4, 5, 7], "the others to run")


async def test_many_large_jobs_are_sent_in_frames_that_are_bounded_in_bytes(
    redis_url: str, clean: TestServer
) -> None:
    """A thousand jobs were one frame, whatever they weighed."""
    ran.clear()
    async with Jobs(redis_url=redis_url) as jobs:
        frames: list[int] = []
        push = jobs.store.push

        async def counted(frame: Any) -> Any:
            frames.append(sum(len(each.payload) for each in frame.items))
            return await push(frame)

        jobs.store.push = counted
        await jobs.enqueue_many([weighs.new(n, "x" * 3_000_000) for n in range(8)], atomic=False)
        await eventually(lambda: len(ran) == 8, "all to run")
    assert len(frames) == 4
    assert max(frames) <= 8 * 2**20

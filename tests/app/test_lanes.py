"""Lanes in a whole app: order, isolation, failures, and all that plain jobs have too."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from kiqpy import (
    App,
    ArgumentError,
    BlockingQueues,
    ConfigError,
    Discard,
    Job,
    Kill,
    Periodic,
    Snooze,
    current_job,
    worker,
)
from kiqpy.event import JobDead
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ran: list[tuple[str, int]] = []
running: defaultdict[str, int] = defaultdict(int)
overlaps: list[str] = []
gates: dict[str, asyncio.Event] = {}
errors: dict[tuple[str, int], list[BaseException]] = {}


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    for shelf in (ran, running, overlaps, gates, errors):
        shelf.clear()
    yield
    assert not overlaps


@worker(queue="tenants")
async def step(lane: str, n: int) -> None:
    running[lane] += 1
    if running[lane] > 1:
        overlaps.append(lane)
    try:
        ran.append((lane, n))
        if (gate := gates.get(lane)) is not None:
            await gate.wait()
        if wrong := errors.get((lane, n)):
            raise wrong.pop(0)
        await asyncio.sleep(0)
    finally:
        running[lane] -= 1


def of(lane: str) -> list[int]:
    return [n for name, n in ran if name == lane]


def app(server: TestServer, **options: Any) -> App:
    given: dict[str, Any] = {
        "workers": [step],
        "queues": ["default", BlockingQueues("tenants", concurrency=10)],
        "poll_interval": 0.05,
        "suspicion": 0.5,
    }
    return App(redis_url=server.url, **{**given, **options})


def some(lanes: str, count: int) -> list[Job[None]]:
    return [step.using(lane=lane).new(lane, n) for n in range(count) for lane in lanes]


async def test_in_order_and_lanes_beside_each_other(clean: TestServer) -> None:
    gates["a"] = asyncio.Event()
    async with app(clean) as jobs:
        await jobs.enqueue_many(some("abc", 10))
        await eventually(lambda: of("b") == of("c") == list(range(10)), "the free lanes")
        assert of("a") == [0]
        gates["a"].set()
        await eventually(lambda: of("a") == list(range(10)), "the other lane")


async def test_two_processes_share_the_lanes(clean: TestServer) -> None:
    async with app(clean) as one, app(clean) as other:
        await one.enqueue_many(some("abcde", 20))
        await other.enqueue(step.new("a", 20), lane="a")
        await eventually(lambda: len(ran) == 101, "all")
    assert of("a") == list(range(21))
    assert all(of(lane) == list(range(20)) for lane in "bcde")


@pytest.mark.parametrize(
    "wrong", [ValueError("no"), Snooze(0.05), SystemExit(1)], ids=lambda e: type(e).__name__
)
async def test_a_retry_blocks_its_lane_only(clean: TestServer, wrong: BaseException) -> None:
    errors["a", 0] = [wrong, wrong]
    fast = step.using(backoff="immediate")
    async with app(clean) as jobs:
        for n in range(3):
            await jobs.enqueue(fast.new("a", n), lane="a")
            await jobs.enqueue(fast.new("b", n), lane="b")
        await eventually(lambda: len(ran) == 8, "all")
    assert of("a") == [0, 0, 0, 1, 2]
    assert of("b") == [0, 1, 2]


@pytest.mark.parametrize("end", [Discard("no"), Kill(), ValueError("no")], ids=repr)
async def test_an_end_lets_the_next_run(clean: TestServer, end: BaseException) -> None:
    errors["a", 0] = [end]
    async with app(clean) as jobs:
        for n in range(2):
            await jobs.enqueue(step.using(retry=0).new("a", n), lane="a")
        await eventually(lambda: of("a") == [0, 1], "both")


async def test_the_lane_says_how_often_and_how_long(clean: TestServer) -> None:
    """`max_attempts`, `max_backoff` and `timeout`; and a worker's own count more."""
    queue = BlockingQueues("tenants", timeout=0.05, max_attempts=3, max_backoff=0.01)
    gates["a"] = asyncio.Event()
    async with app(clean, queues=[queue]) as jobs, jobs.events("job.dead") as dead:
        await jobs.enqueue(step.new("a", 0), lane="a")
        event = await anext(dead)
        assert isinstance(event, JobDead)
        assert event.job is not None
        assert of("a") == [0, 0, 0]
        assert event.job.payload["error_class"] == "TimeoutError"
        await jobs.enqueue(step.using(retry=0).new("a", 1), lane="a")
        await anext(dead)
        assert of("a") == [0, 0, 0, 1]


async def test_a_halted_lane_waits_for_an_operator(clean: TestServer) -> None:
    queue = BlockingQueues("tenants", max_attempts=1, on_exhausted="halt")
    errors["a", 0] = [ValueError("no")]
    async with app(clean, queues=[queue]) as jobs, jobs.events("job.dead") as dead:
        await jobs.enqueue_many(some("ab", 2))
        await anext(dead)
        await eventually(lambda: of("b") == [0, 1], "the other lane")
        assert of("a") == [0]
        assert await jobs.admin.lanes.resume("tenants", "a")
        await eventually(lambda: of("a") == [0, 1], "the next")


async def test_scheduled_jobs_enter_their_lane_when_due(clean: TestServer) -> None:
    gates["a"] = asyncio.Event()
    async with app(clean) as jobs:
        await jobs.enqueue(step.new("a", 0), lane="a")
        await jobs.enqueue(step.new("a", 1), lane="a", in_=0.05)

        async def entered() -> bool:
            return (await jobs.store.lanes.row("tenants", "a")).waiting == 1

        await eventually(entered, "the second waits in its lane")
        gates["a"].set()
        await eventually(lambda: of("a") == [0, 1], "both")


async def test_a_released_head_runs_first_again(clean: TestServer) -> None:
    gates["a"] = asyncio.Event()
    async with app(clean, shutdown_timeout=0.05) as jobs:
        await jobs.enqueue_many(some("a", 3))
        await eventually(lambda: of("a") == [0], "the first")
    gates.clear()
    async with app(clean):
        await eventually(lambda: of("a") == [0, 0, 1, 2], "all")


async def test_unique_expired_and_cancelled_jobs(clean: TestServer) -> None:
    gates["a"] = asyncio.Event()
    async with app(clean) as jobs:
        await jobs.enqueue(step.new("a", 0), lane="a")
        once = step.using(unique_for=60)
        assert (await jobs.enqueue(once.new("a", 1), lane="a")).state == "queued"
        assert (await jobs.enqueue(once.new("a", 1), lane="a")).state == "duplicate"
        await jobs.enqueue(step.using(expires_in=0.001).new("a", 2), lane="a")
        cancelled = await jobs.enqueue(step.new("a", 3), lane="a")
        await jobs.enqueue(step.new("a", 4), lane="a")
        await jobs.admin.cancel(cancelled.jid)
        gates["a"].set()
        await eventually(lambda: of("a") == [0, 1, 4], "those that are to run")
        assert (await jobs.enqueue(once.new("a", 1), lane="a")).state == "queued"
        await eventually(lambda: of("a") == [0, 1, 4, 1], "the lock was freed")


async def test_cancelling_what_runs_lets_the_next_run(clean: TestServer) -> None:
    gates["a"] = asyncio.Event()
    async with app(clean) as jobs:
        first = await jobs.enqueue(step.new("a", 0), lane="a")
        await jobs.enqueue(step.new("a", 1), lane="a")
        await eventually(lambda: of("a") == [0], "the first")
        await jobs.admin.cancel(first.jid)
        await eventually(lambda: of("a") == [0, 1], "the next")
        gates["a"].set()


@worker(queue="tenants", lane="nightly")
async def nightly() -> None:
    job = current_job()
    assert job is not None
    ran.append((str(job.payload["lane"]), 0))


async def test_a_periodic_in_a_lane(clean: TestServer) -> None:
    jobs = app(clean, workers=[step, nightly], periodics=[Periodic("* * * * *", nightly)])
    async with jobs.testing() as t:
        await t.tick(61)
        await t.drain()
    assert ("nightly", 0) in ran


class TestOperating:
    async def test_the_head_of_a_blocked_lane(self, clean: TestServer) -> None:
        errors["a", 0] = [ValueError("no"), ValueError("no")]
        errors["b", 0] = [ValueError("no")]
        async with app(clean) as jobs:
            await jobs.enqueue_many(some("ab", 2))
            lanes = jobs.admin.lanes

            async def state(lane: str) -> str:
                return (await lanes.inspect("tenants", lane)).state

            async def both_blocked() -> bool:
                return await state("a") == await state("b") == "blocked"

            await eventually(both_blocked, "both are blocked")
            page = await lanes("tenants")
            assert sorted((row.name, row.waiting) for row in page.lanes) == [("a", 1), ("b", 1)]
            assert (await lanes.retry("tenants", "b")).done == 1
            await eventually(lambda: of("b") == [0, 0, 1], "b goes on with its head")
            assert await lanes.skip("tenants", "a")
            await eventually(lambda: of("a") == [0, 1], "a goes on without it")
            assert await jobs.admin.size("dead") == 1
            assert not await lanes.skip("tenants", "a")

    async def test_a_running_head_is_not_skipped_and_a_lost_one_is(self, clean: TestServer) -> None:
        errors["a", 0] = [ValueError("no")]
        async with app(clean) as jobs:
            await jobs.enqueue_many(some("a", 2))

            async def blocked() -> bool:
                return (await jobs.admin.lanes.inspect("tenants", "a")).state == "blocked"

            await eventually(blocked, "a is blocked")
            clean.cli("DEL", "retry")  # as Sidekiq's page does
            assert await jobs.admin.lanes.skip("tenants", "a")
            await eventually(lambda: of("a") == [0, 1], "the next")

    async def test_waiting_jobs_are_moved_and_deleted(self, clean: TestServer) -> None:
        gates["a"] = asyncio.Event()
        async with app(clean) as jobs:
            lanes = jobs.admin.lanes
            await jobs.enqueue_many(some("a", 5))
            await eventually(lambda: of("a") == [0], "the head")
            rows = await lanes.waiting("tenants", "a")
            assert [row.job.args[1] for row in rows if row.job] == [1, 2, 3, 4]
            assert await lanes.move("tenants", "a", rows[:1], "z") == 1
            assert await lanes.move("tenants", "a", rows[:1], "z") == 0
            await eventually(lambda: of("a") == [0, 1], "it runs in the other lane")
            running.clear()  # both count as of lane a
            assert await lanes.delete("tenants", "a") == 3
            overlaps.clear()
            gates["a"].set()
        assert of("a") == [0, 1]

    async def test_pause_and_resume(self, clean: TestServer) -> None:
        async with app(clean) as jobs:
            assert await jobs.admin.lanes.pause("tenants", "a")
            await jobs.enqueue_many(some("ab", 2))
            await eventually(lambda: of("b") == [0, 1], "the other lane")
            assert of("a") == []
            assert await jobs.admin.lanes.resume("tenants", "a")
            await eventually(lambda: of("a") == [0, 1], "the paused lane")


class TestModes:
    async def test_the_sandbox(self) -> None:
        jobs = App(workers=[step], queues=[BlockingQueues("tenants")])
        async with jobs.testing() as t:
            await jobs.enqueue_many(some("ab", 5))
            await t.drain()
        assert of("a") == of("b") == list(range(5))

    async def test_inline(self) -> None:
        jobs = App(workers=[step], queues=[BlockingQueues("tenants")], test_mode="inline")
        async with jobs:
            for job in some("ab", 3):
                await jobs.enqueue(job)
        assert of("a") == of("b") == list(range(3))


class TestBadInput:
    @pytest.mark.parametrize(
        ("lane", "says"),
        [
            ("", "not empty"),
            ("x" * 10_000, "10,000 bytes: give 200 at most"),
            (42, "lane=42: give a text"),
            (b"a", "give a text"),
            ("a\n", "can be printed"),
            ("\ud800", "can be printed"),
        ],
    )
    async def test_names(self, clean: TestServer, lane: Any, says: str) -> None:
        async with app(clean) as jobs:
            with pytest.raises(ConfigError, match=says):
                await jobs.enqueue(step.new("a", 0), lane=lane)
            with pytest.raises(ConfigError, match=says):
                step.using(lane=lane)
            with pytest.raises(ConfigError, match=says):
                Job("step", ["a", 0], queue="tenants", lane=lane)
        assert not ran

    async def test_a_lane_on_a_plain_queue_and_none_on_a_blocking_one(
        self, clean: TestServer
    ) -> None:
        async with app(clean) as jobs:
            with pytest.raises(ArgumentError, match=r"'default' has no lanes; declare Blocking"):
                await jobs.enqueue(step.using(queue="default").new("a", 0), lane="a")
            with pytest.raises(ArgumentError, match=r'has lanes: say in which, lane="tenant-42"'):
                await jobs.enqueue(step.new("a", 0))
            with pytest.raises(ArgumentError, match="leave retry_queue out"):
                await jobs.enqueue(step.using(retry_queue="default").new("a", 0), lane="a")
            assert await jobs.admin.size("queue:tenants") == 0
        assert not ran

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"name": "a b"}, "queue name 'a b'"),
            ({"concurrency": 0}, "concurrency=0"),
            ({"max_attempts": 0}, "max_attempts=0: give a whole number"),
            ({"timeout": 0}, "timeout=0: give more than 0"),
            ({"max_backoff": "x"}, "max_backoff='x'"),
            ({"on_exhausted": "stop"}, "on_exhausted='stop'"),
        ],
    )
    def test_declarations(self, given: dict[str, Any], says: str) -> None:
        options: dict[str, Any] = {"name": "tenants", **given}
        with pytest.raises(ConfigError, match=says):
            BlockingQueues(**options)

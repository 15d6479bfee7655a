"""A source of claims as a queue's declaration: one job at a time per lane, in order."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest

from kiqpy import App, worker
from kiqpy._declare.sources import ClaimSource, Sources
from kiqpy._flow.pause import wait
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused
from kiqpy.job import Claim
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

MAX_KEPT = 50
running: defaultdict[str, int] = defaultdict(int)
widest: defaultdict[str, int] = defaultdict(int)
ran: list[tuple[str, int]] = []
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


class LaneQueue:
    """A queue whose jobs with the same first argument run one after the other."""

    shared: ClassVar[bool] = False

    def __init__(self, name: str, concurrency: int) -> None:
        self.name = name
        self.concurrency = concurrency

    @property
    def queues(self) -> Sequence[str]:
        return (self.name,)

    def named(self) -> list[str]:
        return [self.name]

    def patterns(self) -> list[str]:
        return []

    def matches(self, _queue: str) -> bool:
        return False

    def source(self, sources: Sources) -> ClaimSource:
        return LaneSource(sources.in_turn(self.named()), sources.clock)


class LaneSource:
    """Keeps claims back while one of their lane is handed out and not settled."""

    def __init__(self, inner: ClaimSource, clock: Clock) -> None:
        self.queues = inner.queues
        self._inner = inner
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self._busy: dict[int, str] = {}  # delivery handed out -> its lane
        self._kept: deque[Claim] = deque()
        self._freed = asyncio.Event()
        self._inner.reset()

    async def fetch(self, limit: int) -> list[Claim]:
        self._freed.clear()
        claims = self._take(limit)
        room = min(limit - len(claims), MAX_KEPT - len(self._kept))
        if limit == 0 or room > 0:
            try:
                self._kept += await self._inner.fetch(max(0, room))
            except FetchPaused:
                if not claims:
                    raise
            claims += self._take(limit - len(claims))
        return claims

    def _take(self, limit: int) -> list[Claim]:
        """The first claim of each lane that is free."""
        taken: list[Claim] = []
        kept: deque[Claim] = deque()
        for claim in self._kept:
            lane = lane_of(claim)
            if len(taken) < limit and lane not in self._busy.values():
                self._busy[claim.delivery] = lane
                taken.append(claim)
            else:
                kept.append(claim)
        self._kept = kept
        return taken

    async def wait(self, timeout_s: float) -> None:
        if len(self._kept) >= MAX_KEPT:
            return await wait(self._freed, self._clock, timeout_s)
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._inner.wait(timeout_s)),
            asyncio.ensure_future(self._freed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        await self._inner.unwait()  # the next fetch may ask for none

    async def unwait(self) -> None:
        self._freed.set()
        await self._inner.unwait()

    def claimed(self, queue: str) -> set[int]:
        return self._inner.claimed(queue)

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        self._kept += self._inner.adopt(claims)
        self._freed.set()
        return []

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        settled = list(deliveries)
        self._inner.settled(queue, settled)
        for delivery in settled:
            self._busy.pop(delivery, None)
        self._freed.set()


def lane_of(claim: Claim) -> str:
    return str(json.loads(claim.raw)["args"][0])


@worker
async def step(lane: str, n: int) -> None:
    running[lane] += 1
    widest[lane] = max(widest[lane], running[lane])
    ran.append((lane, n))
    try:
        await gates[lane].wait()
    finally:
        running[lane] -= 1


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    for shelf in (running, widest, ran, gates):
        shelf.clear()


def app(server: TestServer, **options: Any) -> App:
    return App(redis_url=server.url, workers=[step], queues=[LaneQueue("default", 4)], **options)


async def test_a_lane_runs_one_job_at_a_time_in_order_and_lanes_run_beside_each_other(
    clean: TestServer,
) -> None:
    async with app(clean) as jobs:
        await jobs.enqueue_many([step.new(lane, n) for n in range(10) for lane in "ab"])
        await eventually(lambda: len(ran) == 2, "a job of each lane")
        assert sorted(ran) == [("a", 0), ("b", 0)]
        gates["b"].set()
        await eventually(lambda: ("b", 9) in ran, "all of lane b")
        assert [n for lane, n in ran if lane == "b"] == list(range(10))
        assert [n for lane, n in ran if lane == "a"] == [0], "a job of lane a still runs"
        gates["a"].set()
        await eventually(lambda: ("a", 9) in ran, "all of lane a")
    assert [n for lane, n in ran if lane == "a"] == list(range(10))
    assert widest == {"a": 1, "b": 1}


async def test_what_is_kept_back_returns_to_its_queue_when_the_app_stops(
    clean: TestServer,
) -> None:
    async with app(clean, shutdown_timeout=0.1) as jobs:
        await jobs.enqueue_many([step.new("a", n) for n in range(10)])
        await eventually(lambda: ran == [("a", 0)], "the first job")
    gates["a"].set()
    async with app(clean) as jobs:
        await eventually(lambda: len(ran) == 11, "all, the first one again")
    assert sorted(ran) == [("a", 0), *(("a", n) for n in range(10))]
    kept_back = [n for _, n in ran if n > 0]
    assert kept_back == list(range(1, 10))
    assert widest == {"a": 1}


async def test_lanes_in_a_test_mode_too() -> None:
    gates["a"].set()
    gates["b"].set()
    jobs = App(workers=[step], queues=[LaneQueue("default", 4)])
    async with jobs.testing() as t:
        await jobs.enqueue_many([step.new(lane, n) for n in range(5) for lane in "ab"])
        await t.drain()
    assert [n for lane, n in ran if lane == "a"] == list(range(5))
    assert widest == {"a": 1, "b": 1}

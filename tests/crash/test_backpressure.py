"""A reporter that is slower than the jobs: jobs wait in Redis, not in the process.

The invariant: at every look, what the process has claimed is within the limits of its queues.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from typing import ClassVar, Literal

import pytest

from kiqpy import App, Job, Reporter, current_job, worker
from kiqpy._runtime.process_info import rss_kb
from kiqpy.event import JobSuccess
from tests.crash.journal import everywhere, number
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LIMITS = {"narrow": 5, "middle": 20, "wide": 60}
JOBS = 5000
ran: Counter[str] = Counter()


@worker(name="brief", retry=False)
async def brief(_filling: str) -> None:
    ran[current_job().jid] += 1


class Slow(Reporter):
    """A millisecond for each event, and few may wait."""

    limit: ClassVar[int] = 100
    overflow: ClassVar[Literal["block", "drop_oldest"]] = "block"
    heard: ClassVar[Counter[str]] = Counter()

    async def handle_success(self, job: Job, _meta: JobSuccess) -> None:
        self.heard[job.jid] += 1
        await asyncio.sleep(0.001)


class Shop(App):
    queues = LIMITS
    workers = [brief]
    reporters = [Slow]
    heartbeat_interval = 0.5
    lease_ttl = 30.0


def claimed(server: TestServer, ident: str, queue: str) -> int:
    """What the process holds of a queue, seen in one instant."""
    keys = (f"kiq:private|{ident}|{queue}", f"kiq:inbox|{ident}|{queue}")
    script = "return redis.call('HLEN', KEYS[1]) + redis.call('LLEN', KEYS[2])"
    return number(server.cli("EVAL", script, 2, *keys))


async def test_claims_stay_within_the_limits(clean: TestServer) -> None:
    """5,000 jobs in three queues, some 6 s: claims bounded, memory flat, the rest in Redis."""
    ran.clear()
    Slow.heard.clear()
    names = list(LIMITS)
    async with Shop(redis_url=clean.url).client_only() as shop:
        jobs = (
            Job("brief", ["x" * 300], queue=names[n % 3], jid=f"j{n}", retry=False)
            for n in range(JOBS)
        )
        await shop.enqueue_many(jobs, atomic=False)

    most: Counter[str] = Counter()
    waiting: list[int] = []
    memory: list[int] = []
    async with Shop(redis_url=clean.url) as shop:
        ident = shop.store.ident

        def look() -> bool:
            for queue in names:
                most[queue] = max(most[queue], claimed(clean, ident, queue))
            in_redis = sum(number(clean.cli("LLEN", f"queue:{queue}")) for queue in names)
            waiting.append(in_redis)
            memory.append(rss_kb())
            # What has left Redis was heard of, but for what may wait for the reporter or runs.
            at_most = Slow.heard.total() + Slow.limit + 1 + 2 * sum(LIMITS.values())
            assert JOBS - in_redis <= at_most
            return Slow.heard.total() >= JOBS

        await eventually(look, "all to be heard of", 60)
    assert ran == Slow.heard == Counter(f"j{n}" for n in range(JOBS))
    assert not everywhere(clean, names)
    assert {queue for queue in names if most[queue] > LIMITS[queue]} == set(), most
    assert most["wide"] > 1
    third = len(waiting) // 3
    assert third >= 20, "too few looks"
    assert statistics.median(waiting[:third]) > JOBS / 2, "the rest waits in Redis"
    early, late = memory[third : 2 * third], memory[2 * third :]
    assert statistics.median(late) - statistics.median(early) < 3_000, "kB"

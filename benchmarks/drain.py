"""One drain in a process of its own: `python -m benchmarks.drain kiqpy|bare URL N LIMIT`."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import time

import redis

from benchmarks import bare
from kiqpy import App, worker

QUEUE = "bench"
ran = 0


@worker(queue=QUEUE)
async def noop(text: str, n: int, options: dict[str, str]) -> None:
    """Does nothing, as sidekiqload's job."""
    global ran
    ran += 1
    if ran == total:
        finished.set()


def fill(url: str, n: int) -> None:
    """Put `n` jobs into the queue, with Sidekiq's own arguments for a load test."""
    client = redis.Redis.from_url(url, protocol=2)
    client.flushdb()
    job = {
        "class": "noop", "args": ["string", 1, {"mike": "bob"}], "queue": QUEUE, "retry": True,
        "created_at": 1795225663.123, "enqueued_at": 1795225663.123,
    }  # fmt: skip
    for start in range(0, n, 1000):
        part = (json.dumps(job | {"jid": f"{k:024x}"}) for k in range(start, min(n, start + 1000)))
        client.lpush(f"queue:{QUEUE}", *part)
    client.close()


async def with_kiqpy(url: str, limit: int) -> None:
    jobs = App(redis_url=url, queues={QUEUE: limit}, workers=[noop])
    await jobs.start()
    await finished.wait()
    await jobs.stop()


async def with_bare(url: str, limit: int) -> None:
    await bare.drain(url, QUEUE, total, min(limit, 100), noop)


if __name__ == "__main__":
    which, address, count, slots = sys.argv[1:5]
    logging.basicConfig(level=logging.WARNING)
    total = int(count)
    finished = asyncio.Event()
    fill(address, total)
    cpu, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    asyncio.run((with_bare if which == "bare" else with_kiqpy)(address, int(slots)))
    took_s = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(json.dumps({"jobs_per_s": total / took_s, "cpu_us_per_job": cpu_s / total * 1e6}))

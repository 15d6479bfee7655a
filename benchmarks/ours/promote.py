"""How fast due jobs leave the schedule: `python -m benchmarks.ours.promote URL kiqpy|bare N`.

The clock runs from the start of the app, or the loop, until the last has left; nothing runs them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import redis
import redis.asyncio

from benchmarks import wire
from benchmarks.meter import cpu_s
from benchmarks.ours import QUEUE
from benchmarks.ours.bare import call, keys
from benchmarks.ours.growth import payloads
from kiqpy import App
from kiqpy.store.redis.scripts import script

PAGE = 100
LOOK_S = 0.01


def fill(url: str, n: int) -> None:
    wire.ask(url, "FLUSHALL")
    client = redis.Redis.from_url(url, protocol=2)
    for start in range(0, n, 1000):
        part = payloads(start, min(1000, n - start))
        client.zadd("schedule", {raw: 1.0 + start + k for k, raw in enumerate(part)})
    client.close()


async def with_kiqpy(url: str, left: Any) -> None:
    async with App(redis_url=url, queues={"idle": 1}):
        while await left():  # noqa: ASYNC110 - only Redis knows
            await asyncio.sleep(LOOK_S)


async def with_bare(url: str, left: Any) -> None:
    link = redis.asyncio.Redis.from_url(url, protocol=2)
    due, promote = script("due"), script("promote")
    for one in (due, promote):
        await link.script_load(one.text.decode())
    names = (keys.schedule, keys.dead, keys.queues, keys.queue(QUEUE))
    while members := (await call(link, due, (keys.schedule,), (PAGE,)))[1][1:]:
        args: list[Any] = [1, QUEUE]
        for member in members:
            job = json.loads(member)
            job["enqueued_at"] = time.time()
            args += (1, member, json.dumps(job))
        await call(link, promote, names, args)
    await link.aclose()


async def measure(url: str, which: str, n: int) -> dict[str, float]:
    link = redis.asyncio.Redis.from_url(url, protocol=2)
    before = wire.info(url)
    cpu, began = cpu_s(), time.perf_counter()

    async def left() -> int:
        return int(await link.zcard("schedule"))

    await (with_bare if which == "bare" else with_kiqpy)(url, left)
    took_s, used_s, after = time.perf_counter() - began, cpu_s() - cpu, wire.info(url)
    queued = await link.llen(f"queue:{QUEUE}")
    await link.aclose()
    if queued != n:
        raise SystemExit(f"{queued} of {n} jobs came into the queue")
    return {
        "jobs_per_s": n / took_s,
        "cpu_us_per_job": used_s / n * 1e6,
        "redis_us_per_job": (wire.cpu_s(after) - wire.cpu_s(before)) / n * 1e6,
    }


if __name__ == "__main__":
    address, party, count = sys.argv[1:]
    fill(address, int(count))
    print(json.dumps(asyncio.run(measure(address, party, int(count)))))

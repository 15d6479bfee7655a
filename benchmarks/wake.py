"""Wake-up of an idle worker: `python -m benchmarks.wake kiqpy|bare URL N`.

From an outside LPUSH, by another connection of a thread of its own, to the first line of the body.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time

import redis
import redis.asyncio

from benchmarks.ours.bare import IDENT
from kiqpy import App, worker
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.scripts import script

QUEUE = "wake"
pushed_at = 0.0
seen: list[float] = []
arrived = threading.Event()


def body() -> None:
    seen.append(time.perf_counter() - pushed_at)
    arrived.set()


@worker(queue=QUEUE)
async def ping() -> None:
    """Says when it started."""
    body()


def push_all(url: str, n: int) -> None:
    """One job at a time, each after the last has arrived and the worker waits again."""
    global pushed_at
    client = redis.Redis.from_url(url, protocol=2)
    for k in range(n):
        job = {"class": "ping", "args": [], "jid": f"{k:024x}", "queue": QUEUE, "retry": False}
        raw = json.dumps(job)
        time.sleep(0.005)
        arrived.clear()
        pushed_at = time.perf_counter()
        client.lpush(f"queue:{QUEUE}", raw)
        if not arrived.wait(10):
            raise SystemExit(f"job {k} did not arrive")
    client.close()


async def with_bare(url: str, n: int) -> None:
    """BLMOVE on one connection, then the fetch script on another: no less can wake and claim."""
    keys = Keys()
    waiting = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=30)
    commands = redis.asyncio.Redis.from_url(url, protocol=2)
    inbox, lease = keys.inbox(IDENT, QUEUE), keys.lease(IDENT)
    await commands.set(lease, 1, ex=600)
    fetch = script("fetch")
    await commands.script_load(fetch.text.decode())
    names = (
        keys.queue(QUEUE), keys.private(IDENT, QUEUE), inbox, lease, keys.privs, keys.paused,
        keys.state(IDENT), keys.cancels,
    )  # fmt: skip
    pusher = asyncio.create_task(asyncio.to_thread(push_all, url, n))
    first = 1
    while len(seen) < n:
        await waiting.blmove(keys.queue(QUEUE), inbox, 4, "RIGHT", "LEFT")
        args = (QUEUE, 25, first, f"{IDENT}|{QUEUE}")
        found = await commands.execute_command("EVALSHA", fetch.sha, len(names), *names, *args)
        for raw in found[1:]:
            json.loads(raw)
            body()
        first += 25
    await pusher
    await waiting.aclose()
    await commands.aclose()


async def with_kiqpy(url: str, n: int) -> None:
    async with App(redis_url=url, queues=[QUEUE], workers=[ping]):
        await asyncio.to_thread(push_all, url, n)


if __name__ == "__main__":
    which, address, count = sys.argv[1:4]
    redis.Redis.from_url(address, protocol=2).flushdb()
    asyncio.run((with_bare if which == "bare" else with_kiqpy)(address, int(count)))
    ms = sorted(1000 * s for s in seen)
    print(json.dumps({"p50_ms": statistics.median(ms), "p99_ms": ms[int(len(ms) * 0.99)]}))

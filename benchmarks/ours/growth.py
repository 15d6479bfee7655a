"""The cost of more data: `python -m benchmarks.ours.growth URL queued|queues|scheduled K`.

10,000 no-op jobs run while there are K queued jobs in all, K queues that they are spread over, or K
jobs scheduled for tomorrow. A cost that grows with K is a defect.
"""

from __future__ import annotations

import asyncio
import sys
import time

import redis

from benchmarks import bodies, wire
from benchmarks.harness import arm, at_end
from benchmarks.ours import QUEUE
from benchmarks.ours.bare import made
from kiqpy import App, worker

RUN = 10_000
LIMIT = 200
OF_MANY = 25  # of each queue, where it is their number that grows
DAY_S = 86_400.0


def payloads(start: int, n: int) -> list[bytes]:
    """`n` jobs, their jids made from their numbers: a million must not take half a minute."""
    jid, raw = made("noop", bodies.ARGS)
    before, _, after = raw.partition(jid.encode())
    return [b"%s%024x%s" % (before, k, after) for k in range(start, start + n)]


def fill(url: str, what: str, many: int) -> list[str]:
    """The jobs, and the queues they are in."""
    wire.ask(url, "FLUSHALL")
    client = redis.Redis.from_url(url, protocol=2)
    queues = [f"{QUEUE}{k}" for k in range(many if what == "queues" else 1)]
    total = max(many, RUN) if what == "queued" else RUN
    for start in range(0, total, 1000):
        part = payloads(start, min(1000, total - start))
        for k, queue in enumerate(queues):
            if own := part[k :: len(queues)]:
                client.lpush(f"queue:{queue}", *own)
    if what == "scheduled":
        for start in range(0, many, 1000):
            due_at = time.time() + DAY_S
            part = payloads(start, min(1000, many - start))
            client.zadd("schedule", dict.fromkeys(part, due_at))
    client.close()
    return queues


async def work(url: str, limits: dict[str, int]) -> None:
    async with App(redis_url=url, queues=limits, workers=[worker(bodies.noop)]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    address, kind, count = sys.argv[1:]
    filled = fill(address, kind, int(count))
    at_end(arm(address, RUN), lambda meter: meter.figures)
    asyncio.run(work(address, dict.fromkeys(filled, OF_MANY if kind == "queues" else LIMIT)))

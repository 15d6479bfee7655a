"""Measures of enqueueing. Standard library only, because every party's interpreter runs it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks import bodies, wire
from benchmarks.meter import cpu_s

if TYPE_CHECKING:
    from benchmarks.harness import Party

WARM = 5  # jobs before the measured ones
TASKS = 100
BULK = 1000
IDLE_GAP_S = 0.01
FILL = 10_000  # jobs at a time, where there is no bulk call


async def timed(party: Party, url: str, way: str, n: int) -> dict[str, float]:
    """Enqueue `n` jobs in one of the ways, everything connected and warm before."""
    from benchmarks.harness import Unsupported

    if way == "bulk1000" and not party.bulk:
        raise Unsupported("no bulk call")
    if way == "tasks100" and not party.tasks:
        raise Unsupported("a client that blocks")
    if way == "nowait" and not party.nowait:
        raise Unsupported("no buffer")
    await party.open(url)
    await WAYS[way](party, BULK if way == "bulk1000" else TASKS)
    before, cpu, began = wire.info(url), cpu_s(), time.perf_counter()
    await WAYS[way](party, n)
    took_s, used_s, after = time.perf_counter() - began, cpu_s() - cpu, wire.info(url)
    await party.close()
    return {
        "jobs_per_s": n / took_s,
        "cpu_us_per_job": used_s / n * 1e6,
        "redis_us_per_job": (wire.cpu_s(after) - wire.cpu_s(before)) / n * 1e6,
        "redis_commands_per_job": (wire.commands(after) - wire.commands(before)) / n,
    }


async def one(party: Party, n: int) -> None:
    for _ in range(n):
        await party.push("noop", bodies.ARGS)


async def tasks(party: Party, n: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(one(party, n // TASKS))


async def bulk(party: Party, n: int) -> None:
    for _ in range(n // BULK):
        await party.push_many("noop", [bodies.ARGS] * BULK)


async def nowait(party: Party, n: int) -> None:
    """As from a handler that has other things to do: a turn of the loop after each hundred."""
    for k in range(n):
        party.push_nowait("noop", bodies.ARGS)
        if k % TASKS == 0:
            await asyncio.sleep(0)
    await party.flush()


WAYS = {"one": one, "tasks100": tasks, "bulk1000": bulk, "nowait": nowait}


async def filled(party: Party, url: str, body: str, args: tuple[Any, ...], n: int) -> None:
    """Put `n` jobs of a body into the queue, the fastest way the party has."""
    await party.open(url)
    if party.bulk:
        for start in range(0, n, BULK):
            await party.push_many(body, [args] * min(BULK, n - start))
    elif party.tasks:
        left = iter(range(n))

        async def some() -> None:
            for _ in left:
                await party.push(body, args)

        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(some())
    else:
        for _ in range(n):
            await party.push(body, args)
    await party.close()


async def paced(party: Party, url: str, n: int, rate: float) -> None:
    """Stamped jobs: some to warm up; at a word on stdin `n` more, `rate` a second (0: 10 ms apart).

    With a rate the pushes do not wait for each other, so that a slow one delays no other's start.
    """
    await party.open(url)
    for _ in range(WARM):
        await party.push("stamp", (0.0,))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if not rate:
        for _ in range(n):
            await asyncio.sleep(IDLE_GAP_S)
            await party.push("stamp", (time.monotonic(),))
        await party.close()
        return
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for k in range(n):
            ahead_s = began + k / rate - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            group.create_task(party.push("stamp", (time.monotonic(),)))
    await party.close()

"""The bare loop: what redis-py, asyncio and our own scripts can do with nothing of kiqpy between.

Fetch a page by the script, decode, one task a job, settle what has ended by the script, again.
No limit beyond the page, no retries, no events, no recovery.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

from kiqpy.store._keys import Keys
from kiqpy.store._scripts import script

IDENT = "bare:1:aa"


def ranges(ids: list[int]) -> str:
    """As the script wants them: `7-9,11-11`."""
    spans: list[list[int]] = []
    for n in ids:
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ",".join(f"{first}-{last}" for first, last in spans)


async def drain(
    url: str, queue: str, total: int, page: int, body: Callable[..., Awaitable[Any]]
) -> None:
    """Run `total` jobs of a queue, `page` at a time, with the bare loop."""
    keys = Keys()
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    lease = keys.lease(IDENT)
    await client.set(lease, 1, ex=600)
    fetch_keys = (
        keys.queue(queue), keys.private(IDENT, queue), keys.inbox(IDENT, queue),
        lease, keys.privs, keys.paused, keys.state(IDENT), keys.cancels,
    )  # fmt: skip
    settle_keys = (
        keys.private(IDENT, queue), keys.state(IDENT), keys.queue(queue), keys.retry,
        keys.schedule, keys.dead, *keys.stats("2026-01-01", queue),
    )  # fmt: skip
    fetch, settle = script("fetch"), script("settle")
    for one in (fetch, settle):
        await client.script_load(one.text.decode())
    state = {"first": 1, "sequence": 0, "done": 0}
    ended: list[int] = []

    async def run(delivery: int, raw: bytes) -> None:
        payload = json.loads(raw)
        await body(*payload["args"])
        ended.append(delivery)

    async def settle_ended() -> None:
        ids, ended[:] = list(ended), []
        state["sequence"] += 1
        state["done"] += len(ids)
        args = (queue, state["sequence"], 86_400_000, ranges(sorted(ids)))
        await client.execute_command("EVALSHA", settle.sha, len(settle_keys), *settle_keys, *args)

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    while state["done"] < total:
        args = (queue, page, state["first"], f"{IDENT}|{queue}")
        jobs = await client.execute_command(
            "EVALSHA", fetch.sha, len(fetch_keys), *fetch_keys, *args
        )
        for n, raw in enumerate(jobs[1:]):
            task = loop.create_task(run(state["first"] + n, raw))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        state["first"] += page
        await asyncio.sleep(0)
        if ended:
            await settle_ended()
    await client.delete(lease, keys.state(IDENT))
    await client.aclose()

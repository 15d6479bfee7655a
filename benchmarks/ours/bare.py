"""The bare loop: redis-py, asyncio and kiqpy's scripts, without kiqpy's Python.

Fetch a page by the script, decode, one task a job, settle what has ended by the script, again.
No retries, no events, no recovery. It enqueues by the push script, one frame at a time: what comes
while a frame is on its way goes with the next.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio

from benchmarks import bodies
from benchmarks.harness import Party, main
from benchmarks.ours import FAST, QUEUE
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.scripts import Script, script

IDENT = f"bare:1:{secrets.token_hex(6)}"
PAGE = 250
BULK = 1000
LEASE_S = 600
WAIT_S = 4
STATE_TTL_MS = 86_400_000
keys = Keys()
log = logging.getLogger("bare")

decode: Callable[[bytes], Any] = json.loads
if FAST and importlib.util.find_spec("msgspec"):
    decode = importlib.import_module("msgspec").json.decode


def client(url: str) -> Any:
    return redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=30)


async def call(link: Any, one: Script, names: Any, args: Any) -> Any:
    return await link.execute_command("EVALSHA", one.sha, len(names), *names, *args)


class Pusher:
    """Frames of jobs, one on its way at a time."""

    def __init__(self, link: Any) -> None:
        self._link, self._script, self._sequence = link, script("push"), 0
        self._names = (keys.push(IDENT), keys.queues, keys.schedule, keys.queue(QUEUE))
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._busy: asyncio.Task[None] | None = None

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self.later(body, args)

    def later(self, body: str, args: tuple[Any, ...]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((*made(body, args), done))
        if self._busy is None or self._busy.done():
            self._busy = loop.create_task(self._send_all())
        return done

    async def flush(self) -> None:
        if self._busy is not None:
            await self._busy

    async def _send_all(self) -> None:
        while self._waiting:
            part, self._waiting = self._waiting[:BULK], self._waiting[BULK:]
            await self.frame([(jid, raw) for jid, raw, _ in part])
            for _, _, done in part:
                done.set_result(None)

    async def frame(self, jobs: list[tuple[str, bytes]]) -> None:
        self._sequence += 1
        args = [self._sequence, 0, 1, QUEUE, f"1 {len(jobs)}", *(raw for _jid, raw in jobs)]
        answer = await call(self._link, self._script, self._names, args)
        if answer != [b"new"]:
            raise RuntimeError(f"a push was answered {answer!r}: push.lua has changed")


def made(body: str, args: tuple[Any, ...]) -> tuple[str, bytes]:
    jid, now = secrets.token_hex(12), time.time()
    job = {
        "class": body, "args": args, "jid": jid, "queue": QUEUE, "retry": True,
        "created_at": now, "enqueued_at": now,
    }  # fmt: skip
    return jid, json.dumps(job).encode()


class Loop:
    """Claims, runs, settles; waits by BLMOVE when there is nothing."""

    def __init__(self, url: str, limit: int, run: Callable[[dict[str, Any]], Any]) -> None:
        self._link, self._waiter, self._limit, self._run = client(url), client(url), limit, run
        self._fetch, self._settle = script("fetch"), script("settle")
        self._fetch_keys = (
            keys.queue(QUEUE), keys.private(IDENT, QUEUE), keys.inbox(IDENT, QUEUE),
            keys.lease(IDENT), keys.privs, keys.paused, keys.state(IDENT), keys.cancels,
        )  # fmt: skip
        self._settle_keys = (
            keys.private(IDENT, QUEUE), keys.state(IDENT), keys.queue(QUEUE), keys.retry,
            keys.schedule, keys.dead, *keys.stats("2026-01-01", QUEUE),
        )  # fmt: skip
        self._first, self._sequence = 1, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[int] = []
        self._some_ended = asyncio.Event()

    async def work(self) -> None:
        await self._link.set(keys.lease(IDENT), 1, ex=LEASE_S)
        for one in (self._fetch, self._settle):
            await self._link.script_load(one.text.decode())
        while True:
            room = min(self._limit - len(self._tasks), PAGE)
            found = await self.claim(room) if room else 0
            await asyncio.sleep(0)
            if self._ended:
                await self.settle()
            elif not found and self._tasks:
                self._some_ended.clear()
                await self._some_ended.wait()
            elif not found:
                await self._waiter.blmove(
                    keys.queue(QUEUE), keys.inbox(IDENT, QUEUE), WAIT_S, "RIGHT", "LEFT"
                )

    async def claim(self, room: int) -> int:
        args = (QUEUE, room, self._first, f"{IDENT}|{QUEUE}")
        jobs = (await call(self._link, self._fetch, self._fetch_keys, args))[1:]
        loop = asyncio.get_running_loop()
        for n, raw in enumerate(jobs):
            task = loop.create_task(self.one(self._first + n, raw))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._first += room
        return len(jobs)

    async def one(self, delivery: int, raw: bytes) -> None:
        await self._run(decode(raw))
        self._ended.append(delivery)
        self._some_ended.set()

    async def settle(self) -> None:
        ids, self._ended = self._ended, []
        self._sequence += 1
        args = (QUEUE, self._sequence, STATE_TTL_MS, ranges(ids))
        answer = await call(self._link, self._settle, self._settle_keys, args)
        if answer != b"1" * len(ids):  # else a loop that acks nothing would be the fastest
            raise RuntimeError(f"{len(ids)} acks were answered {answer!r}: settle.lua has changed")


def ranges(ids: list[int]) -> str:
    """`7-9,11-11`"""
    ids.sort()
    found, first = [], 0
    for at in range(1, len(ids) + 1):
        if at == len(ids) or ids[at] != ids[at - 1] + 1:
            found.append(f"{ids[first]}-{ids[at - 1]}")
            first = at
    return ",".join(found)


async def run(job: dict[str, Any]) -> None:
    await bodies.ASYNC[job["class"]](*job["args"])


async def run_logged(job: dict[str, Any]) -> None:
    log.info("started jid=%s class=%s queue=%s", job["jid"], job["class"], job["queue"])
    await run(job)
    log.info("success jid=%s class=%s queue=%s", job["jid"], job["class"], job["queue"])


class Bare(Party):
    best = 1000
    bulk = nowait = logs = True

    async def open(self, url: str) -> None:
        self._link = client(url)
        await self._link.script_load(script("push").text.decode())
        self._pusher = Pusher(self._link)

    async def close(self) -> None:
        await self._link.aclose()

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self._pusher.push(body, args)

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        await self._pusher.frame([made(body, args) for args in jobs])

    def push_nowait(self, body: str, args: tuple[Any, ...]) -> None:
        self._pusher.later(body, args)

    async def flush(self) -> None:
        await self._pusher.flush()

    def serve(self, url: str, concurrency: int) -> None:
        self.work(url, concurrency, run_logged if self.log_lines else run)

    def serve_threads(self, url: str, threads: int) -> None:
        pool = ThreadPoolExecutor(threads)

        async def in_thread(job: dict[str, Any]) -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, bodies.noop_sync, *job["args"])

        self.work(url, threads, in_thread)

    def work(self, url: str, limit: int, how: Callable[[dict[str, Any]], Any]) -> None:
        async def forever() -> None:
            await Loop(url, limit, how).work()

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(forever())


if __name__ == "__main__":
    main(Bare())

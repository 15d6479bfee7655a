"""saq: at-least-once, BLMOVE and a key for each job; named arguments only."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import redis.asyncio
from saq import Worker
from saq.queue.redis import RedisQueue

from benchmarks import bodies
from benchmarks.harness import Party, main

NAMES = {"noop": ("text", "n", "options"), "noop_sync": ("text", "n", "options"),
         "nap": ("ms",), "stamp": ("sent_at",), "hold": ()}  # fmt: skip


class Saq(Party):
    def queue(self, url: str, most: int) -> RedisQueue:
        client = redis.asyncio.from_url(url, max_connections=most + 50)
        return RedisQueue(client, dump=orjson.dumps, load=orjson.loads, max_concurrent_ops=most)

    async def open(self, url: str) -> None:
        self._queue = self.queue(url, 200)
        await self._queue.connect()

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        named = dict(zip(NAMES[body], args, strict=True))
        await self._queue.enqueue(body, ttl=-1, timeout=300, **named)  # no result is kept

    def serve(self, url: str, concurrency: int) -> None:
        functions = [(name, with_context(call)) for name, call in bodies.ASYNC.items()]
        self.run(url, concurrency, functions)

    def serve_threads(self, url: str, threads: int) -> None:
        def noop_sync(ctx: Any, **named: Any) -> None:
            bodies.noop_sync(**named)

        self.run(url, threads, [("noop_sync", noop_sync)])

    def run(self, url: str, concurrency: int, functions: Any) -> None:
        async def work() -> None:
            queue = self.queue(url, concurrency)
            await queue.connect()
            await Worker(queue, functions, concurrency=concurrency).start()

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(work())


def with_context(call: Any) -> Any:
    async def body(ctx: Any, **named: Any) -> None:
        await call(**named)

    return body


if __name__ == "__main__":
    main(Saq())

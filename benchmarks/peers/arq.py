"""arq: at-least-once, a sorted set that is polled."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop
from arq import Worker, create_pool, func
from arq.connections import RedisSettings

from benchmarks import bodies
from benchmarks.harness import Party, main

POLL_S = 0.01  # the default of 0.5 s is 0.27 s of latency; this costs idle CPU


class Arq(Party):
    async def open(self, url: str) -> None:
        self.pool = await create_pool(RedisSettings.from_dsn(url))

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self.pool.enqueue_job(body, *args)

    def serve(self, url: str, concurrency: int) -> None:
        self.run(url, concurrency, [func(with_context(call), name=name)
                                    for name, call in bodies.ASYNC.items()])  # fmt: skip

    def serve_threads(self, url: str, threads: int) -> None:
        pool = ThreadPoolExecutor(threads)

        async def noop_sync(ctx: Any, *args: Any) -> None:  # as its documentation says
            await asyncio.get_running_loop().run_in_executor(pool, bodies.noop_sync, *args)

        self.run(url, threads, [func(noop_sync, name="noop_sync")])

    def run(self, url: str, concurrency: int, functions: list[Any]) -> None:
        asyncio.set_event_loop(uvloop.new_event_loop())
        Worker(functions, redis_settings=RedisSettings.from_dsn(url), max_jobs=concurrency,
               poll_delay=POLL_S, keep_result=0).run()  # fmt: skip


def with_context(call: Any) -> Any:
    async def body(ctx: Any, *args: Any) -> None:
        await call(*args)

    return body


if __name__ == "__main__":
    main(Arq())

"""repid: at-least-once, a stream that is only acknowledged, never trimmed; no bulk."""

from __future__ import annotations

import asyncio
from typing import Any

from repid import Repid, Router
from repid.connections.redis import RedisServer

from benchmarks import bodies
from benchmarks.harness import Party, main

BATCH = 100  # its default is 10
NAMES = {"noop": ("text", "n", "options"), "noop_sync": ("text", "n", "options"),
         "nap": ("ms",), "stamp": ("sent_at",), "hold": ()}  # fmt: skip


class OfRepid(Party):
    best = 100

    def app(self, url: str) -> Repid:
        app = Repid(title="bench", version="1")
        app.servers.register_server("default", RedisServer(url, batch_size=BATCH), is_default=True)
        router = Router()
        for name, call in (bodies.ASYNC | {"noop_sync": bodies.noop_sync}).items():
            router.actor(name=name)(call)
        app.include_router(router)
        return app

    async def open(self, url: str) -> None:
        self._app = self.app(url)
        self._connection = self._app.servers.default.connection()
        await self._connection.__aenter__()

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        named = dict(zip(NAMES[body], args, strict=True))
        await self._app.send_message_json(channel="default", payload=named, headers={"topic": body})

    def serve(self, url: str, concurrency: int) -> None:
        async def work() -> None:
            app = self.app(url)
            async with app.servers.default.connection():
                await app.run_worker(tasks_limit=concurrency)

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(work())

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfRepid())

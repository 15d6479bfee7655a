"""ardiq: a Rust core over streams, at-least-once; keeps every result."""

from __future__ import annotations

import asyncio
from typing import Any

from ardiq import Ardiq

from benchmarks import bodies
from benchmarks.harness import Party, main


class OfArdiq(Party):
    best = 100
    bulk = True

    def app(self, url: str, **options: Any) -> Ardiq:
        app = Ardiq(redis_url=url, queue_name="bench", **options)
        calls = bodies.ASYNC | {"noop_sync": bodies.noop_sync}
        self.jobs = {name: app.task(name=name)(call) for name, call in calls.items()}
        return app

    async def open(self, url: str) -> None:
        self._app = self.app(url)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self.jobs[body].enqueue(*args)

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        await self._app.enqueue_many([self.jobs[body].prepare(*args) for args in jobs])

    def serve(self, url: str, concurrency: int) -> None:
        app = self.app(url, concurrency=concurrency)

        async def work() -> None:
            await app.run()

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(work())

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfArdiq())

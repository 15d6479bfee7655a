"""streaq: at-least-once, streams, coredis; pickled arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import coredis
from streaq import Worker

from benchmarks import bodies
from benchmarks.harness import Party, main

coredis.Config.optimized = True


class Streaq(Party):
    best = 100
    bulk = True

    def worker(self, url: str, **options: Any) -> Worker[Any]:
        worker: Worker[Any] = Worker(redis_url=url, **options)
        calls = bodies.ASYNC | {"noop_sync": bodies.noop_sync}
        self.jobs = {name: worker.task(name=name, silent=True, ttl=0)(call)
                     for name, call in calls.items()}  # fmt: skip
        return worker

    async def open(self, url: str) -> None:
        self._worker = self.worker(url)
        await self._worker.__aenter__()

    async def close(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self.jobs[body].enqueue(*args)

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        await self._worker.enqueue_many([self.jobs[body].enqueue(*args) for args in jobs])

    def serve(self, url: str, concurrency: int) -> None:
        worker = self.worker(url, concurrency=concurrency, sync_concurrency=concurrency)
        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(worker.run_async())

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(Streaq())

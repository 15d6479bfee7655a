"""taskiq with taskiq-redis: `list` (at most once) or `stream` (at least once) in BENCH_VARIANT."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from benchmarks import bodies
from benchmarks.harness import Party, main

LIST = os.environ.get("BENCH_VARIANT", "taskiq-list") == "taskiq-list"


class Taskiq(Party):
    def broker(self, url: str) -> Any:
        # redis-py 8 reads with a time-out of 5 s, which ends its idle list worker.
        options: dict[str, Any] = {"socket_timeout": None}
        broker = ListQueueBroker(url, **options) if LIST else RedisStreamBroker(url, **options)
        calls = bodies.ASYNC | {"noop_sync": bodies.noop_sync}
        self.jobs = {name: broker.task(task_name=name)(call) for name, call in calls.items()}
        return broker

    async def open(self, url: str) -> None:
        await self.broker(url).startup()

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self.jobs[body].kiq(*args)

    def serve(self, url: str, concurrency: int) -> None:
        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(run_receiver_task(
                self.broker(url), sync_workers=concurrency, validate_params=False,
                max_async_tasks=concurrency, max_prefetch=concurrency, run_startup=True,
            ))  # fmt: skip

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(Taskiq())

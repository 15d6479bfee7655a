"""dramatiq: at-least-once, plain functions in the threads of one process."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import bodies
from benchmarks.harness import Party, main


class OfDramatiq(Party):
    best = 32
    tasks = False
    bodies = bodies.SYNC

    def broker(self, url: str) -> RedisBroker:
        broker = RedisBroker(url=url)
        dramatiq.set_broker(broker)
        self.jobs = {name: dramatiq.actor(call, actor_name=name, broker=broker)
                     for name, call in bodies.SYNC.items()}  # fmt: skip
        return broker

    async def open(self, url: str) -> None:
        self.broker(url)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        self.jobs[body].send(*args)

    def serve(self, url: str, concurrency: int) -> None:
        dramatiq.Worker(self.broker(url), worker_threads=concurrency).start()
        threading.Event().wait()

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfDramatiq())

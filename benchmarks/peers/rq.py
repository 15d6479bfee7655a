"""rq: SimpleWorker, one job at a time in the worker's own process, no fork, no results."""

from __future__ import annotations

import logging
from typing import Any

import redis
from rq import Queue, SimpleWorker

from benchmarks import bodies
from benchmarks.harness import Party, main


class OfRq(Party):
    best = most = 1
    bulk = True
    tasks = False
    bodies = bodies.SYNC

    async def open(self, url: str) -> None:
        self._queue = Queue("bench", connection=redis.Redis.from_url(url))

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        self._queue.enqueue_call(bodies.SYNC[body], args=args, result_ttl=0)

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        call = bodies.SYNC[body]
        self._queue.enqueue_many([
            Queue.prepare_data(call, args=args, result_ttl=0) for args in jobs
        ])  # fmt: skip

    def serve(self, url: str, concurrency: int) -> None:
        link = redis.Redis.from_url(url)
        logging.getLogger("rq").setLevel(logging.WARNING)
        SimpleWorker([Queue("bench", connection=link)], connection=link).work(
            logging_level="WARNING"
        )

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, 1)


if __name__ == "__main__":
    main(OfRq())

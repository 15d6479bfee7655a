"""huey: at-most-once, plain functions in the threads of one process, no results."""

from __future__ import annotations

import threading
from typing import Any

from huey import RedisHuey

from benchmarks import bodies
from benchmarks.harness import Party, main


class OfHuey(Party):
    best = 1
    most = 100
    tasks = False
    bodies = bodies.SYNC

    def huey(self, url: str) -> RedisHuey:
        huey = RedisHuey("bench", url=url, results=False)
        self.jobs = {name: huey.task(name=name)(call) for name, call in bodies.SYNC.items()}
        return huey

    async def open(self, url: str) -> None:
        self.huey(url)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        self.jobs[body](*args)

    def serve(self, url: str, concurrency: int) -> None:
        self.huey(url).create_consumer(workers=concurrency, periodic=False).start()
        threading.Event().wait()

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfHuey())

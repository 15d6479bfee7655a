"""mayu: a Rust core, at-least-once, in thread mode; `mayu-sync` has plain functions as jobs."""

from __future__ import annotations

import os
from typing import Any

from mayu import App
from mayu.worker import WorkerRunner

from benchmarks import bodies
from benchmarks.harness import Party, main

SYNC = os.environ.get("BENCH_VARIANT") == "mayu-sync"


class OfMayu(Party):
    best = 100
    tasks = False  # its client blocks
    bodies = bodies.SYNC if SYNC else bodies.ASYNC

    def app(self, url: str) -> App:
        app = App(broker=url, result_ttl=None)
        calls = self.bodies | {"noop_sync": bodies.noop_sync}
        self.jobs = {name: app.task(name=name)(call) for name, call in calls.items()}
        return app

    async def open(self, url: str) -> None:
        self._app = self.app(url)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        self.jobs[body].send(*args)

    def serve(self, url: str, concurrency: int) -> None:
        WorkerRunner(self.app(url), threads=concurrency).run()

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfMayu())

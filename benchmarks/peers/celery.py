"""celery: early acknowledgement (its default), one process: the solo pool, or one of threads."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks import bodies
from benchmarks.harness import Party, main

PREFETCH = 100


class OfCelery(Party):
    best = 1
    most = 100
    tasks = False
    bodies = bodies.SYNC

    def app(self, url: str) -> Celery:
        app = Celery("bench", broker=url)
        app.conf.update(
            task_ignore_result=True, worker_prefetch_multiplier=PREFETCH,
            broker_connection_retry_on_startup=True, worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
        )  # fmt: skip
        self.jobs = {name: app.task(name=name)(call) for name, call in bodies.SYNC.items()}
        return app

    async def open(self, url: str) -> None:
        self.app(url)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        self.jobs[body].delay(*args)

    def serve(self, url: str, concurrency: int) -> None:
        app = self.app(url)
        if concurrency > 1:
            app.conf.worker_prefetch_multiplier = max(1, PREFETCH // concurrency)
        pool = "solo" if concurrency == 1 else "threads"
        worker = app.Worker(pool=pool, concurrency=concurrency, loglevel="WARNING", quiet=True,
                            without_gossip=True, without_mingle=True)  # fmt: skip
        worker.start()

    def serve_threads(self, url: str, threads: int) -> None:
        self.serve(url, threads)


if __name__ == "__main__":
    main(OfCelery())

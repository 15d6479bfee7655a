"""kiqpy through its public API: default reporters, and two middlewares around each job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks import bodies
from benchmarks.harness import Party, main
from benchmarks.ours import QUEUE
from kiqpy import App, Job, worker
from kiqpy.cli import _collector

WORKERS = {name: worker(queue=QUEUE)(call) for name, call in bodies.ASYNC.items()}


async def outer(job: Job, call_next: Any) -> Any:
    return await call_next(job)


async def inner(job: Job, call_next: Any) -> Any:
    return await call_next(job)


class Kiqpy(Party):
    best = 1000
    bulk = nowait = logs = True

    def app(self, url: str, **options: Any) -> App:
        lines = {"start_log_level": "info"} if self.log_lines else {}
        options = {"queues": {QUEUE: 25}, "middleware": [outer, inner], **lines, **options}
        return App(redis_url=url, workers=list(WORKERS.values()), **options)

    def log_to(self, path: str, *, plain: bool) -> None:
        """As `kiqpy run` does: JSON lines."""
        if plain:
            return super().log_to(path, plain=plain)
        stream = Path(path).open("w")  # noqa: SIM115 - the process ends with it
        from kiqpy.cli import _logs  # structlog with it

        _logs.configure("info", "json", stream)

    async def open(self, url: str) -> None:
        self._app = self.app(url)
        self._client = self._app.client_only()
        await self._client.__aenter__()

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self._app.enqueue(WORKERS[body].new(*args))

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        await self._app.enqueue_many([WORKERS[body].new(*args) for args in jobs])

    def push_nowait(self, body: str, args: tuple[Any, ...]) -> None:
        self._app.enqueue_nowait(WORKERS[body].new(*args))

    async def flush(self) -> None:
        await self._app.flush()

    def serve(self, url: str, concurrency: int) -> None:
        self.run(self.app(url, queues={QUEUE: concurrency}))

    def serve_threads(self, url: str, threads: int) -> None:
        self.run(self.app(url, queues={QUEUE: threads}, threads=threads))

    def run(self, app: App) -> None:
        async def work() -> None:
            async with app:
                _collector.tune()  # as `kiqpy run` does
                await asyncio.Event().wait()

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(work())


if __name__ == "__main__":
    main(Kiqpy())

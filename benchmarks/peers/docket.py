"""docket (pydocket): at-least-once, streams, a key for each job."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from docket import Docket, Worker

from benchmarks import bodies
from benchmarks.harness import Party, main

CONNECTIONS = 5000  # redis-py 8 stops at 100, and it takes about one for each running job


class OfDocket(Party):
    bulk = True

    def docket(self, url: str) -> Docket:
        docket = Docket(
            name="bench", url=f"{url}?max_connections={CONNECTIONS}", execution_ttl=timedelta(0)
        )
        for name, call in bodies.ASYNC.items():
            if name != "noop_sync":
                docket.register(call)
        return docket

    async def open(self, url: str) -> None:
        self._docket = await self.docket(url).__aenter__()

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        await self._docket.add(body)(*args)

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        await self._docket.add_many([self._docket.call(body)(*args) for args in jobs])

    def serve(self, url: str, concurrency: int) -> None:
        async def work() -> None:
            async with (
                self.docket(url) as docket,
                Worker(docket, concurrency=concurrency, schedule_automatic_tasks=False) as worker,
            ):
                await worker.run_forever()

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(work())


if __name__ == "__main__":
    main(OfDocket())

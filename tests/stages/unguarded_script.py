"""A program that forgot to write `if __name__ == "__main__":`."""

from __future__ import annotations

import asyncio
import logging
import sys

from kiqpy import App, worker


@worker(executor="process", retry=False)
def plain() -> None: ...


jobs = App(redis_url=sys.argv[1], workers=[plain], heartbeat_interval=0.2)


async def main() -> None:
    ended = asyncio.Event()
    jobs.attach("job.failure", lambda told: print("FAILED", told.error, flush=True))
    jobs.attach("job.stopped", lambda _told: ended.set())
    async with jobs:
        await jobs.enqueue(plain.new())
        await ended.wait()


logging.basicConfig()
asyncio.run(main())

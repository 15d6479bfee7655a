"""A worker process of a queue with lanes: `lane_process.py URL ORACLE`. Tests kill it.

What it does goes to the oracle: `up PID`, and `start LANE N PID`, `end LANE N PID` (it succeeded)
or `failed LANE N PID` around each run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

from kiqpy import App, BlockingQueues, worker

ORACLE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if len(sys.argv) > 2 else -1


def note(*words: object) -> None:
    os.write(ORACLE, (" ".join(map(str, words)) + "\n").encode())


@worker(name="deliver", queue="lanes", backoff="immediate", retry=1000)
async def deliver(lane: str, n: int) -> None:
    note("start", lane, n, os.getpid())
    await asyncio.sleep(random.random() / 50)
    if random.random() < 0.2:
        note("failed", lane, n, os.getpid())
        raise ValueError("at random")
    note("end", lane, n, os.getpid())


class Lanes(App):
    queues = (BlockingQueues("lanes", concurrency=10),)
    workers = (deliver,)
    heartbeat_interval = 0.2
    poll_interval = 0.05
    fail_log_level = "debug"


async def run(url: str) -> None:
    async with Lanes(redis_url=url) as app:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, app._lifecycle.on_signal, "TERM"
        )
        note("up", os.getpid())
        await app.wait_stopped()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))

"""A process that enqueues local jobs and runs them: `local_process.py URL ORACLE JOBS [NARROW]`.

Tests kill and stop it. What it does goes to the oracle: `up PID`, `begin N PID RETRIES` around each
job with `end N PID`, `kept N JID` when one is confirmed, and `fenced`. With NARROW one runs at a
time, and job 0 lasts for ever where it was enqueued.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from kiqpy import App, current_job, worker

URL, PATH, JOBS = sys.argv[1], sys.argv[2], int(sys.argv[3])
NARROW = len(sys.argv) > 4
ORACLE = os.open(PATH, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(*words: object) -> None:
    os.write(ORACLE, (" ".join(map(str, words)) + "\n").encode())


@worker(local=True, name="chore", backoff="immediate")
async def chore(n: int, enqueued_by: int) -> None:
    here = os.getpid() == enqueued_by
    note("begin", n, os.getpid(), current_job().retry_count)
    if n % 5 == 1 and current_job().retry_count < 0:
        raise ValueError("the first time")
    if NARROW and n == 0 and here:
        await asyncio.Event().wait()
    await asyncio.sleep(0.01)
    note("end", n, os.getpid())


async def run() -> None:
    jobs = App(
        redis_url=URL, workers=[chore], heartbeat_interval=0.2, lease_ttl=1.0, suspicion=0.5,
        poll_interval=0.1, shutdown_timeout=0,
    )  # fmt: skip
    jobs.attach("job.fenced", lambda _event: note("fenced"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, jobs._lifecycle.on_signal, "TERM")
    async with jobs:
        if NARROW:
            pipeline = jobs._lifecycle.running().pipelines.find("local")
            assert pipeline is not None
            pipeline.scale(1)
        for n in range(JOBS):
            note("kept", n, (await jobs.enqueue(chore.new(n, os.getpid()))).jid)
        note("up", os.getpid())
        await jobs.wait_stopped()


asyncio.run(run())

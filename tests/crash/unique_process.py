"""A process with unique jobs. Tests kill it.

`unique_process.py works URL ORACLE [OPTION=VALUE ...]` works, and appends to the oracle
`up PID`, and `start JID PID`, `end JID PID` around each job; jobs end when ORACLE.go exists.
`unique_process.py rush URL ORACLE COUNT`: appends `up PID`, waits for ORACLE.go, enqueues
COUNT equal jobs at once, and appends `receipt STATE JID` for each.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import sys
from typing import Any

from kiqpy import App, current_job, worker
from tests.eventually import eventually

ORACLE = pathlib.Path(sys.argv[3]) if __name__ == "__main__" else pathlib.Path("none")


def note(*words: object) -> None:
    with ORACLE.open("ab", buffering=0) as oracle:
        oracle.write((" ".join(map(str, words)) + "\n").encode())


async def told_to_go() -> None:
    await eventually(pathlib.Path(f"{ORACLE}.go").exists, "the word to go", 120)


async def work(fails: bool) -> None:
    jid = current_job().jid
    note("start", jid, os.getpid())
    if fails and current_job().retry_count < 0:
        raise ValueError("the first time")
    await told_to_go()
    note("end", jid, os.getpid())


@worker(name="lone", queue="lone", unique_for=30)
async def lone(n: int, fails: bool = False) -> None:
    await work(fails)


@worker(name="opener", queue="lone", unique_for=30, unique_until="start")
async def opener(n: int, fails: bool = False) -> None:
    await work(fails)


class Loners(App):
    queues = {"lone": 10}
    workers = [lone, opener]
    heartbeat_interval = 0.2
    poll_interval = 0.1


async def works(url: str, options: dict[str, Any]) -> None:
    app = Loners(redis_url=url, **options)
    app.attach("job.recovered", lambda e: note("recovered", e.jid))
    app.attach("job.fenced", lambda e: note("fenced", e.job.jid))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app._lifecycle.on_signal, "TERM")
    async with app:
        note("up", os.getpid())
        await app.wait_stopped()


async def rush(url: str, count: int) -> None:
    async with Loners(redis_url=url).client_only() as app:
        note("up", os.getpid())
        await told_to_go()
        receipts = await asyncio.gather(*(app.enqueue(lone.new(1)) for _ in range(count)))
    for receipt in receipts:
        note("receipt", receipt.state, receipt.jid)


if __name__ == "__main__":
    if sys.argv[1] == "rush":
        asyncio.run(rush(sys.argv[2], int(sys.argv[4])))
    else:
        pairs = (word.split("=", 1) for word in sys.argv[4:])
        asyncio.run(works(sys.argv[2], {name: json.loads(value) for name, value in pairs}))

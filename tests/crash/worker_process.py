"""A worker process: `worker_process.py URL ORACLE [OPTION=VALUE ...]`. Tests kill it.

What it does goes to the oracle: `start N PID RECOVERED` and `end N PID` around each job, and
`up IDENT PID`, `recovered JID COUNT POISON`, `fenced N`, `lapsed`, `dead JID` as they are heard.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from kiqpy import App, current_job, worker

ORACLE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if len(sys.argv) > 2 else -1


def note(*words: object) -> None:
    os.write(ORACLE, (" ".join(map(str, words)) + "\n").encode())


@worker(name="labor", retry=False)
async def labor(n: int, seconds: float) -> None:
    note("start", n, os.getpid(), current_job().recovered)
    await asyncio.sleep(seconds)
    note("end", n, os.getpid())


@worker(name="poison", retry=False)
async def poison(n: int) -> None:
    note("start", n, os.getpid(), current_job().recovered)
    os.kill(os.getpid(), signal.SIGKILL)


class Works(App):
    queues = {"kill": 40}
    workers = [labor, poison]
    heartbeat_interval = 0.2
    poll_interval = 0.2


async def run(url: str, options: dict[str, Any]) -> None:
    works = Works(redis_url=url, **options)
    works.attach("job.recovered", lambda e: note("recovered", e.jid, e.count, int(e.poison)))
    works.attach("job.fenced", lambda e: note("fenced", e.job.args[0]))
    works.attach("process.lease_lapsed", lambda _event: note("lapsed", os.getpid()))
    works.attach("job.dead", lambda e: note("dead", e.job.jid))
    heed = works._lifecycle.on_signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heed, "TERM")
    async with works:
        note("up", works.store.ident, os.getpid())
        await works.wait_stopped()


if __name__ == "__main__":
    pairs = (word.split("=", 1) for word in sys.argv[3:])
    asyncio.run(run(sys.argv[1], {name: json.loads(value) for name, value in pairs}))

"""A process with a periodic job every second. Tests kill it.

Run as `periodic_process.py URL ORACLE JSON`.
JSON: {"name": options of Periodic}. To the oracle go `up IDENT PID`, `leads PID`,
`tick NAME SECOND JID` when a job runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from kiqpy import App, Periodic, current_job, worker

ORACLE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if len(sys.argv) > 2 else -1


def note(*words: object) -> None:
    os.write(ORACLE, (" ".join(map(str, words)) + "\n").encode())


@worker(name="tick")
async def tick() -> None:
    job = current_job()
    note("tick", job.payload["periodic"], round(job.payload["tick_at"]), job.jid)


class Ticks(App):
    queues = {"default": 10}
    workers = [tick]
    elect_ttl = 2.0
    suspicion = 0.5
    heartbeat_interval = 0.5
    lease_ttl = 3.0


async def run(url: str, entries: dict[str, dict[str, Any]]) -> None:
    made = [Periodic("* * * * * *", tick, name=name, **given) for name, given in entries.items()]
    app = Ticks(redis_url=url, periodics=made)
    app.attach("leader.elected", lambda _event: note("leads", os.getpid()))
    async with app:
        note("up", app.store.ident, os.getpid())
        await app.wait_stopped()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[3])))

"""A process that enqueues: `enqueue_process.py URL ORACLE FIRST COUNT`. Tests kill it.

Before a job is handed over `try N` is appended to the oracle, and `ok N STATE` once there is a
receipt. Four tasks at a time, so that frames hold one to four jobs.
"""

from __future__ import annotations

import asyncio
import os
import sys

from kiqpy import App, Job, StoreUnavailable

_TASKS = 4


class Shop(App):
    queues = {}
    server = False
    identity = "the-same"
    redis_options = {"socket_timeout": 0.25}
    confirm_timeout = 60.0
    push_timeout = 60.0


async def enqueue(url: str, oracle: int, first: int, count: int) -> object:
    numbers = iter(range(first, first + count))

    async def some() -> None:
        for n in numbers:
            os.write(oracle, f"try {n}\n".encode())
            receipt = await shop.enqueue(Job("touch", [n], queue="lost", jid=f"job-{n}"))
            os.write(oracle, f"ok {n} {receipt.jid} {receipt.state}\n".encode())

    while True:
        try:
            async with Shop(redis_url=url).client_only() as shop:
                return await asyncio.gather(*(some() for _ in range(_TASKS)))
        except StoreUnavailable:  # even the first PING may go unanswered
            continue


if __name__ == "__main__":
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asyncio.run(enqueue(sys.argv[1], log, int(sys.argv[3]), int(sys.argv[4])))

"""A program whose worker, and its error, are in `__main__`. Its argument says what it does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
import warnings

from kiqpy import worker
from kiqpy._rules.stack import backtrace
from tests.stages.harness import World, outcome_of, payload, performer


class MyError(Exception):
    def __init__(self, code: int, words: str) -> None:
        super().__init__(code, words)


@worker(executor="process")
def fails() -> None:
    raise MyError(7, "from main")


@worker(executor="process")
def speaks() -> None:
    print("printed")
    warnings.warn("warned", stacklevel=1)
    logging.getLogger("shop").info("logged")
    logging.getLogger("shop").error("raised", exc_info=ValueError("in the child"))


@worker(executor="process")
def sleeps() -> None:
    print(os.getpid(), flush=True)
    time.sleep(600)


async def main(what: str) -> None:
    world = World()
    perform = performer(world, fails, speaks, sleeps)
    if what == "orphan":
        task = asyncio.create_task(outcome_of(world, perform, payload("sleeps")))
        await asyncio.to_thread(sys.stdin.readline)  # the child's pid has been read
        os.kill(os.getpid(), signal.SIGKILL)
        await task
    elif what == "forgotten":
        asyncio.get_running_loop().call_later(5, sys.exit, 3)
        await outcome_of(world, perform, payload("sleeps"))
    else:
        logging.basicConfig(level="INFO", format="parent: %(message)s")
        outcome = await outcome_of(world, perform, payload(what))
        if what == "fails":
            print(type(outcome.error) is MyError, outcome.error.args)  # type: ignore[union-attr]
            print(backtrace(outcome.error, keep=True)[0])  # type: ignore[union-attr]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

"""The bodies of jobs, the same for every party: async, and as plain functions for threads."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from benchmarks.meter import Meter

ARGS = ("string", 1, {"mike": "bob"})  # as sidekiqload's
HELD_S = 60.0

meter = cast("Meter", None)  # set in the worker process, before the worker starts


async def noop(text: str, n: int, options: dict[str, Any]) -> None:
    """Nothing."""
    meter.enter()
    meter.leave()


def noop_sync(text: str, n: int, options: dict[str, Any]) -> None:
    """Nothing, in a thread."""
    meter.enter()
    meter.leave()


async def nap(ms: float) -> None:
    """Waits, as for a network."""
    meter.enter()
    meter.now_running += 1
    meter.most_at_once = max(meter.most_at_once, meter.now_running)
    await asyncio.sleep(ms / 1000)
    meter.now_running -= 1
    meter.leave()


def nap_sync(ms: float) -> None:
    """Waits in a thread."""
    meter.enter()
    time.sleep(ms / 1000)
    meter.leave()


async def stamp(sent_at: float) -> None:
    """Notes how long it was on its way."""
    meter.enter()
    meter.arrived(sent_at)


def stamp_sync(sent_at: float) -> None:
    """The same in a thread."""
    meter.enter()
    meter.arrived(sent_at)


async def hold() -> None:
    """Runs until the measure is over; done as soon as all run at once."""
    meter.enter()
    meter.leave()
    await asyncio.sleep(HELD_S)


ASYNC = {"noop": noop, "nap": nap, "stamp": stamp, "hold": hold, "noop_sync": noop_sync}
SYNC = {"noop": noop_sync, "nap": nap_sync, "stamp": stamp_sync, "noop_sync": noop_sync}

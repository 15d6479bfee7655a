"""The workers of jobs.rb in Python, under the same names; they answer through Redis, too."""

from __future__ import annotations

import json
import os
from typing import Any

from kiqpy import App, current_job, worker
from tests.eventually import eventually
from tests.server import Wire

_wires: dict[str, Wire] = {}


def wire() -> Wire:
    """A connection to the test's server, whose socket is in the environment."""
    address = os.environ["INTEROP_SOCKET"]
    return _wires.setdefault(address, Wire(address))


def tell(key: str, *what: Any) -> None:
    wire().cli("RPUSH", f"test:{key}", json.dumps(what))


@worker(name="Echo")
async def echo(*args: Any) -> None:
    """Says what it was given."""
    tell("python", current_job().jid, *args)


@worker(name="Shaky", backtrace=3, backoff=lambda _count, _error, _job: 1_000_000.0)
async def shaky(name: str) -> None:
    """Fails until a key says that it may succeed."""
    if not wire().cli("EXISTS", "test:calm"):
        raise ValueError(f"not yet, {name}: <b>é</b>")
    tell("python", current_job().jid, name)


@worker(name="Held")
async def held(name: str) -> None:
    """Runs until a key says that it may end."""
    tell("began", current_job().jid, name)
    await eventually(lambda: wire().cli("EXISTS", "test:go"), "the word to go", 600)
    tell("python", current_job().jid, name)


class Jobs(App):
    """Beats and polls as often as a test can wait for."""

    queues = {"default": 5}
    workers = [echo, shaky, held]
    poll_interval = 0.05
    heartbeat_interval = 0.2
    lease_ttl = 3.0
    shutdown_timeout = 0.3


jobs = Jobs()

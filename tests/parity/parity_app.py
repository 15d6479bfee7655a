"""The app of the parity tests: its workers, and a view of what the server holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kiqpy import App, current_job, worker
from kiqpy.event import Event
from tests.eventually import eventually
from tests.server import TestServer

ran: list[Any] = []
_gates: list[asyncio.Event] = []  # of the test that runs, for events belong to a loop


def begin() -> None:
    """Forget what ran; to be called in the event loop of each test."""
    ran.clear()
    _gates[:] = [asyncio.Event()]


def let_go() -> None:
    """End the jobs that wait."""
    _gates[0].set()


@worker
async def note(n: Any = 0) -> None:
    ran.append(n)


@worker
async def fails(n: Any = 0) -> None:
    ran.append(n)
    raise ValueError(f"no {n}")


@worker
async def waits(n: Any = 0) -> None:
    ran.append(n)
    await _gates[0].wait()


@worker
async def counts() -> None:
    ran.append(current_job().attempt)
    raise ValueError("no")


class Shop(App):
    queues = {"default": 3}
    workers = [note, fails, waits, counts]
    poll_interval = 0.05


class House:
    """The server, and what is heard of the apps that are opened on it."""

    def __init__(self, server: TestServer) -> None:
        self.server = server
        self.events: list[Any] = []

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Shop]:
        """A running shop whose events are heard."""
        shop = Shop(redis_url=self.server.url, **options)
        shop.attach("*", self.events.append)
        async with shop:
            yield shop

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Shop]:
        """A shop that only enqueues."""
        async with Shop(redis_url=self.server.url, **options).client_only() as shop:
            yield shop

    def cli(self, *words: Any) -> Any:
        return self.server.cli(*words)

    def of(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    async def told(self, kind: type[Event], times: int = 1) -> Any:
        """The event of this kind, as soon as there are so many; the last of them."""
        await eventually(lambda: len(self.of(kind)) >= times, f"{times} x {kind.name}")
        return self.of(kind)[times - 1]

    def payloads(self, key: str) -> list[dict[str, Any]]:
        """What is in a queue (next one first) or a set (soonest first)."""
        if key.startswith("queue:"):
            return [json.loads(raw) for raw in reversed(self.cli("LRANGE", key, 0, -1))]
        return [json.loads(raw) for raw in self.cli("ZRANGE", key, 0, -1)]

    def scores(self, key: str) -> list[float]:
        found = self.cli("ZRANGE", key, 0, -1, "WITHSCORES")
        return [float(score) for score in found[1::2]]

    def now(self) -> float:
        """By the server's clock, which is what scores are written by."""
        seconds, micros = self.cli("TIME")
        return int(seconds) + int(micros) / 1e6

    def keys(self, pattern: str) -> list[str]:
        return sorted(self.cli("KEYS", pattern))

"""Microseconds of a call: the best of several timings, each long enough for the clock."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

TRIES = 7
LONG_S = 0.02


def best_us(call: Callable[[], object]) -> float:
    """The smallest of TRIES means: what disturbs a run only ever adds to it."""
    gc.collect()
    n = 1
    while (took_s := _loop(call, n)) < LONG_S:
        n = max(n * 2, int(n * LONG_S / max(took_s, 1e-9)))
    return min([took_s, *(_loop(call, n) for _ in range(TRIES - 1))]) / n * 1e6


def _loop(call: Callable[[], object], n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        call()
    return time.perf_counter() - began


def driven(make: Callable[[], Coroutine[Any, Any, object]]) -> Callable[[], object]:
    """A call that runs a coroutine which never has to wait; RuntimeError if it does."""

    def call() -> object:
        run = make()
        try:
            run.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError(f"{run!r} waits")

    return call


def in_loop_us(make: Callable[[], Awaitable[int]]) -> float:
    """`make()` is awaited in an event loop, and says how many it has done."""

    async def tries() -> float:
        found: list[float] = []
        for _ in range(TRIES):
            began = time.perf_counter()
            n = await make()
            found.append((time.perf_counter() - began) / n * 1e6)
        return min(found)

    return asyncio.run(tries())

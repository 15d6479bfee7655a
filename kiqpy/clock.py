"""The only source of time, sleep, chance and ids; tests hand in one of their own."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Protocol, final


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What kiqpy asks of time and chance."""

    def now(self) -> float:
        """Epoch seconds, for people and payloads; it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds for durations; it never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, what: Callable[[], object]) -> Timer: ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def token(self, n_bytes: int) -> str:
        """Hex digits nobody can guess, different after a fork too."""
        ...


@final
class SystemClock:
    """The machine's own clock, the running event loop's timers, the kernel's randomness."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    random = staticmethod(random.random)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, what: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, what)

    def token(self, n_bytes: int) -> str:
        return os.urandom(n_bytes).hex()

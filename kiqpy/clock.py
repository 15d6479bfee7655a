"""The only source of time, sleep, chance and ids; tests hand in one of their own."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final


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
        if n_bytes != _JID_BYTES:
            return os.urandom(n_bytes).hex()
        try:
            return _jids.pop()  # atomic: jobs are made in threads, too
        except IndexError:
            digits = os.urandom(_JID_BYTES * _AHEAD).hex()
            size = 2 * _JID_BYTES
            _jids.extend(digits[n : n + size] for n in range(size, len(digits), size))
            return digits[:size]


# Fetched in advance, for a system call for each job would cost as much as the rest of its making.
_JID_BYTES: Final = 12
_AHEAD: Final = 256
_jids: deque[str] = deque()
if hasattr(os, "register_at_fork"):  # a child must not give out what its parent does
    os.register_at_fork(after_in_child=_jids.clear)

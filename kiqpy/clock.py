"""The only source of time, sleep, random numbers and ids. Tests pass a clock of their own."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final


class Timer(Protocol):
    """A call that will be made, unless `cancel` comes first."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time and chance, as kiqpy uses them."""

    def now(self) -> float:
        """Epoch seconds, for people and payloads; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds, for durations; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, what: Callable[[], object]) -> Timer:
        """Call `what` in the event loop after `seconds`."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def token(self, n_bytes: int) -> str:
        """Hex digits of random bytes that nobody can guess; a forked child gets others."""
        ...


@final
class SystemClock:
    """The machine's clock, the timers of the running event loop, the kernel's random bytes."""

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
            return _jids.pop()  # atomic: threads make jobs too
        except IndexError:
            digits = os.urandom(_JID_BYTES * _JIDS_PER_CALL).hex()
            size = 2 * _JID_BYTES
            _jids.extend(digits[n : n + size] for n in range(size, len(digits), size))
            return digits[:size]


# Made in advance: a system call for each job would take as long as all else about making it.
_JID_BYTES: Final = 12
_JIDS_PER_CALL: Final = 256
_jids: deque[str] = deque()
if hasattr(os, "register_at_fork"):  # parent and child must not give out the same
    os.register_at_fork(after_in_child=_jids.clear)

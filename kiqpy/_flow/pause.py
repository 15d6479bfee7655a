"""Waits: for an event or a time; and ever longer ones between tries."""

from __future__ import annotations

import asyncio
from typing import Final, final

from kiqpy.clock import Clock

_FIRST_S: Final = 0.05
_MAX_WAIT_S: Final = 5.0


async def wait(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when `event` is set; after `seconds`, it is set here. None: wait as long as it takes.

    Cancel: safe, the timer is cancelled.
    """
    if event.is_set():
        return
    timer = None if seconds is None else clock.call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()


@final
class ExponentialBackoff:
    """Doubling waits up to 5 s with full jitter, so that 200 workers do not return as one."""

    def __init__(self, clock: Clock, first_s: float = _FIRST_S, factor: float = 2.0) -> None:
        self._clock = clock
        self._first_s = first_s
        self._factor = factor
        self.reset()

    def reset(self) -> None:
        """There was an answer: the next wait is short again."""
        self._ceiling_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now: half to all of a ceiling that grows with each call."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(_MAX_WAIT_S, ceiling_s * self._factor)
        return ceiling_s * (0.5 + self._clock.random() / 2)

    async def pause(self) -> None:
        """Wait that long."""
        await self._clock.sleep(self.next_s())

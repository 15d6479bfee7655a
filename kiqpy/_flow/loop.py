"""Everything that happens by time, and the one place that runs it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from typing import final

from kiqpy._flow.pause import ExponentialBackoff, wait
from kiqpy.clock import Clock, Timer
from kiqpy.errors import StoreError


class Loop(ABC):
    """One round is a `tick`, which returns the seconds until the next; 0: there is more to do.

    Only a loop that holds something overrides `close`.
    """

    name: str

    @abstractmethod
    async def tick(self) -> float: ...

    async def close(self) -> None:  # noqa: B027  # most loops hold nothing
        """Called once, after the last tick; what it raises is a defect, except a StoreError."""


OnDefect = Callable[[str, Exception], None]


@final
class LoopRunner:
    """Runs a loop until it is stopped: jitter, and longer waits while the store does not answer.

    A tick that is under way when the runner is stopped comes to its end first: ticks are short.
    Any error but a StoreError is passed to `on_defect(loop's name, error)`, and the tick is tried
    again: a broken loop must not take the jobs down.
    """

    def __init__(self, loop: Loop, clock: Clock, on_defect: OnDefect) -> None:
        self.loop = loop
        self._clock = clock
        self._on_defect = on_defect
        self._wake = asyncio.Event()
        self._stopping = False
        self._alarm: Timer | None = None
        self._alarm_at = inf  # by the monotonic clock

    def stop(self) -> None:
        """Begin no further tick."""
        self._stopping = True
        self._silence()
        self._wake.set()

    def wake(self) -> None:
        """Tick now rather than later."""
        self._wake.set()

    def wake_within(self, seconds: float) -> None:
        """Tick once more by then; there is one timer, for the soonest that was asked for."""
        at = self._clock.monotonic() + seconds
        if at < self._alarm_at and not self._stopping:
            self._silence()
            self._alarm_at = at
            self._alarm = self._clock.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._silence()
        self._wake.set()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, inf

    async def run(self) -> None:
        backoff = ExponentialBackoff(self._clock, first_s=0.5)
        while not self._stopping:
            self._wake.clear()
            await self._rest(await self._tick(backoff))
        await self._close()

    async def _tick(self, backoff: ExponentialBackoff) -> float:
        try:
            delay_s = await self.loop.tick()
        except StoreError:  # the client and the fetches emit the outage; this only tries again
            return backoff.next_s()
        except Exception as error:
            self._on_defect(self.loop.name, error)
            return backoff.next_s()
        backoff.reset()
        return delay_s

    async def _close(self) -> None:
        try:
            await self.loop.close()
        except StoreError:  # what it held runs out by itself
            return
        except Exception as error:
            self._on_defect(self.loop.name, error)

    async def _rest(self, delay_s: float) -> None:
        if self._stopping:
            return
        if delay_s <= 0:
            return await asyncio.sleep(0)
        await wait(self._wake, self._clock, delay_s * (0.9 + self._clock.random() / 10))

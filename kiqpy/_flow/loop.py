"""Everything that happens by time, and the one place that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol, final

from kiqpy._flow.pause import Backoff
from kiqpy.clock import Clock
from kiqpy.errors import StoreError


class Loop(Protocol):
    """`tick` does one round and says in how many seconds the next is due; 0: there is more."""

    name: ClassVar[str]

    async def tick(self) -> float: ...


@final
class LoopRunner:
    """Runs a loop until it is stopped: jitter, back-off after a silent store, no lifecycle in it.

    A tick that is under way when the runner is stopped comes to its end first, within reason:
    ticks are short. A tick that raises anything but a StoreError is told to `on_defect` and tried
    again like the others; one broken loop must not take the jobs down.
    """

    def __init__(self, loop: Loop, clock: Clock, on_defect: Callable[[str, Exception], None]):
        self.loop = loop
        self._clock = clock
        self._on_defect = on_defect
        self._wake = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Begin no further tick."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Tick now rather than later."""
        self._wake.set()

    async def run(self) -> None:
        backoff = Backoff(self._clock, first_s=0.5)
        while not self._stopping:
            self._wake.clear()
            try:
                delay_s = await self.loop.tick()
                backoff.reset()
            except StoreError:
                delay_s = backoff.next_s()
            except Exception as error:
                self._on_defect(self.loop.name, error)
                delay_s = backoff.next_s()
            await self._rest(delay_s)

    async def _rest(self, delay_s: float) -> None:
        if self._stopping:
            return
        if delay_s <= 0:
            return await asyncio.sleep(0)
        timer = self._clock.call_later(delay_s * (0.9 + self._clock.random() / 10), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

"""Emits an event when jobs have waited long for a thread or a child process."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, final

from kiqpy._reporting.bus import Bus
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Slots
from kiqpy.clock import Clock
from kiqpy.event import ExecutorExhausted

_PATIENCE_S: Final = 5.0


@final
class Watched:
    """Takes slots for runs as `Slots` does; an event says when one has waited 5 s.

    It says so once, and again only after a time in which none waited.
    """

    def __init__(self, slots: Slots, executor: str, clock: Clock, bus: Bus) -> None:
        self._slots = slots
        self._executor = executor
        self._clock = clock
        self._bus = bus
        self._told = False

    def __call__(self, run: Run) -> Awaitable[None] | None:
        turn = self._slots(run)
        return None if turn is None else self._wait(turn)

    async def _wait(self, turn: Awaitable[None]) -> None:
        timer = self._clock.call_later(_PATIENCE_S, self._tell)
        try:
            await turn
        finally:
            timer.cancel()
            self._told = self._told and self._slots.waiting > 0

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            slots = self._slots
            self._bus.emit(ExecutorExhausted(self._executor, slots.limit, slots.waiting))

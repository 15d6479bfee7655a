"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random  # noqa: TID251  # seeded: the same numbers in every run
from collections.abc import Callable, Sized
from typing import Any, Final, final
from weakref import WeakSet

from kiqpy.clock import Timer

_START: Final = 1_700_000_000.0
_QUIET_ROUNDS: Final = 5  # a finished task may wake another through a few callbacks
_MOST_ROUNDS: Final = 100_000
_resting: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()


@final
class _Timer:
    """One thing to do at one virtual instant."""

    def __init__(self, at: float, number: int, what: Callable[[], object]) -> None:
        self.at = at
        self._number = number
        self._what: Callable[[], object] | None = what

    def __lt__(self, other: _Timer) -> bool:
        return (self.at, self._number) < (other.at, other._number)

    def cancel(self) -> None:
        self._what = None

    def fire(self) -> bool:
        """Whether there was still something to do."""
        what, self._what = self._what, None
        if what is None:
            return False
        what()
        return True


@final
class FakeClock:
    """A clock that stands still until `advance`; chance and ids are the same in every run."""

    def __init__(self, start: float = _START, seed: int = 0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._timers: list[_Timer] = []
        self._random = random.Random(seed)
        self._timer_numbers = itertools.count(1)
        self._token_numbers = itertools.count(1)

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def random(self) -> float:
        return self._random.random()

    def token(self, n_bytes: int) -> str:
        return f"{next(self._token_numbers):0{2 * n_bytes}x}"

    def call_later(self, seconds: float, what: Callable[[], object]) -> Timer:
        at = self._elapsed + max(0.0, seconds)
        timer = _Timer(at, next(self._timer_numbers), what)
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: _wake(woken))
        try:
            await woken
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Let time pass: each timer fires at its instant, and whom it wakes runs until it waits.

        Work handed to threads is not waited for.
        """
        until = self._elapsed + seconds
        await rest()
        while self._timers and self._timers[0].at <= until:
            timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, timer.at)
            if timer.fire():
                await rest()
        self._elapsed = max(self._elapsed, until)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


async def rest() -> None:
    """Return when every other task of this event loop waits for something (or rests, too)."""
    me, quiet = asyncio.current_task(), 0
    assert me is not None
    busy, enough = _look()
    _resting.add(me)
    try:
        for _ in range(_MOST_ROUNDS):
            await asyncio.sleep(0)
            quiet = 0 if busy() else quiet + 1
            if quiet == enough:
                return
    finally:
        _resting.discard(me)
    raise RuntimeError("some task never waits for anything: virtual time can't pass")


def _look() -> tuple[Callable[[], bool], int]:
    """How to see whether anything is about to run, and how often nothing must be."""
    loop = asyncio.get_running_loop()
    ready: Sized | None = getattr(loop, "_ready", None)
    if ready is None:  # uvloop shows its tasks only
        return lambda: any(map(_runs, asyncio.all_tasks())), _QUIET_ROUNDS
    # Each other task that rests is about to look again, and so stands in the queue once.
    return lambda: len(ready) >= sum(task.get_loop() is loop for task in _resting), 2


def _runs(task: asyncio.Task[Any]) -> bool:
    waits_for: asyncio.Future[object] | None = getattr(task, "_fut_waiter", None)
    return task not in _resting and (waits_for is None or waits_for.done())

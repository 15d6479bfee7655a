"""Everything that happens by time, and the one place that runs it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from typing import ClassVar, Final, final

from kiqpy._flow.pause import ExponentialBackoff, wait
from kiqpy.clock import Clock, Timer
from kiqpy.errors import StoreError, StoreRefused

_AWAY_S: Final = 30.0  # as long as a lease: client and fetches tell of shorter outages
_SAME_AGAIN_S: Final = 60.0  # a loop may succeed at one thing and be refused another, in turns


class Loop(ABC):
    """One round is a `tick`, which returns the seconds until the next; 0: there is more to do.

    Only a loop that holds something overrides `close`.
    """

    name: str
    on_clients: ClassVar[bool] = False  # run in an app that only enqueues, too

    @abstractmethod
    async def tick(self) -> float: ...

    async def close(self) -> None:  # noqa: B027  # most loops hold nothing
        """Called once, after the last tick; what it raises is a defect, except a StoreError."""


OnFailure = Callable[[str, Exception], None]


@final
class Failures:
    """The failures of one loop since its last good tick, and which of them must be told.

    A refusal is told at once, for no later try will help; that no answer comes is told when it has
    lasted for 30 s. Each is told once. After a good tick it may be told anew, a refusal in the same
    words after a minute.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._told_away = False
        self._refusals: dict[str, float] = {}  # the words -> when they were told

    def good(self) -> None:
        """A tick has succeeded."""
        self._since = None
        self._told_away = False
        if self._refusals:
            before = self._clock.monotonic() - _SAME_AGAIN_S
            self._refusals = {words: at for words, at in self._refusals.items() if at > before}

    def tells(self, error: StoreError) -> bool:
        """Whether this failure, which has happened now, is to be told."""
        now = self._clock.monotonic()
        if isinstance(error, StoreRefused):
            return self._refusals.setdefault(str(error), now) == now
        self._since = now if self._since is None else self._since
        if self._told_away or now - self._since < _AWAY_S:
            return False
        self._told_away = True
        return True


@final
class LoopRunner:
    """Runs a loop until it is stopped: jitter, and longer waits while the store does not answer.

    A tick that is under way when the runner is stopped comes to its end first: ticks are short.
    What a tick raises is passed to `on_failure(loop's name, error)`, a StoreError once (see
    `Failures`), and the tick is tried again: a broken loop must not take the jobs down.
    """

    def __init__(self, loop: Loop, clock: Clock, on_failure: OnFailure) -> None:
        self.loop = loop
        self.failure: Exception | None = None  # of the last tick
        self._ticking_since: float | None = None
        self._clock = clock
        self._on_failure = on_failure
        self._failures = Failures(clock)
        self._wake = asyncio.Event()
        self._stopping = False
        self._alarm: Timer | None = None
        self._alarm_at = inf  # by the monotonic clock

    def ticking_s(self) -> float:
        """For how long the tick runs that is under way; 0.0: none is."""
        since = self._ticking_since
        return 0.0 if since is None else self._clock.monotonic() - since

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
        self._ticking_since = self._clock.monotonic()
        try:
            delay_s = await self.loop.tick()
        except Exception as error:
            self.failure = error
            if not isinstance(error, StoreError) or self._failures.tells(error):
                self._on_failure(self.loop.name, error)
            return backoff.next_s()
        finally:
            self._ticking_since = None
        self.failure = None
        self._failures.good()
        backoff.reset()
        return delay_s

    async def _close(self) -> None:
        try:
            await self.loop.close()
        except StoreError:  # what it held runs out by itself
            return
        except Exception as error:
            self._on_failure(self.loop.name, error)

    async def _rest(self, delay_s: float) -> None:
        if self._stopping:
            return
        if delay_s <= 0:
            return await asyncio.sleep(0)
        await wait(self._wake, self._clock, delay_s * (0.9 + self._clock.random() / 10))

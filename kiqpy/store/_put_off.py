"""When jobs are due that this very process puts off: nobody has to look for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from kiqpy.clock import Clock
from kiqpy.outcome import Defer, Retry, Verdict
from kiqpy.store import Frame, OutgoingJob

_PUT_OFF: Final = frozenset({Retry, Defer})


@final
class PutOffJobs:
    """Tells one listener, after each step that the store has confirmed, how soon a job is due.

    A frame is told of once, with its soonest job. Without a listener nothing is looked at.
    """

    def __init__(self, clock: Clock) -> None:
        self.listener: Callable[[float], object] | None = None
        self._clock = clock
        self._ahead_s = 0.0

    def store_says(self, now: float) -> None:
        """The store's clock, which decides when a job with an instant of its own is due."""
        self._ahead_s = now - self._clock.now()

    def pushed(self, frame: Frame[OutgoingJob]) -> None:
        """Jobs with a delay or an instant, now that they are stored."""
        if self.listener is not None:
            self._tell(self._delays(frame))

    def _delays(self, frame: Frame[OutgoingJob]) -> Iterator[float]:
        age_s = self._clock.monotonic() - frame.made_at
        store_now = self._clock.now() + self._ahead_s
        later = [item for item in frame.items if item.in_s is not None or item.at_s is not None]
        for item in later:
            if item.at_s is not None:
                yield item.at_s - store_now
            elif item.in_s is not None:
                yield item.in_s - age_s

    def settled(self, verdicts: Iterable[Verdict]) -> None:
        """Retries and snoozes, now that they are settled."""
        if self.listener is not None and not _PUT_OFF.isdisjoint(map(type, verdicts)):
            self._tell(v.in_s for v in verdicts if isinstance(v, (Retry, Defer)))

    def rescued(self, delays: Iterable[float]) -> None:
        """Rescued jobs; those with a delay of 0 are in their queues."""
        self._tell(in_s for in_s in delays if in_s > 0)

    def _tell(self, delays: Iterable[float]) -> None:
        soonest = min(delays, default=None)
        if soonest is not None and self.listener is not None:
            self.listener(max(0.0, soonest))

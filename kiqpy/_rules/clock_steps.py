"""Whether another machine's clock was set back, seen from here."""

from __future__ import annotations

from math import inf
from typing import Final, final

_NOISE_S: Final = 5.0  # a clock that is only slewed loses less than that between two looks


@final
class ClockSteps:
    """Compares a clock with our monotonic one, however late its answers come."""

    def __init__(self) -> None:
        self._ahead_s = -inf  # of our monotonic clock, at least

    def back(self, now: float, sent: float, received: float) -> float:
        """By how many seconds it went back since the last look; 0.0: it did not.

        `now`: what it said; `sent`, `received`: when it was asked and had answered.
        """
        back_s = self._ahead_s - (now - sent)
        self._ahead_s = now - received
        return back_s if back_s > _NOISE_S else 0.0

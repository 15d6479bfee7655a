"""How long to wait before asking again somebody who did not answer."""

from __future__ import annotations

from typing import Final, final

from kiqpy.clock import Clock

_FIRST_S: Final = 0.05
_LONGEST_S: Final = 5.0


@final
class Backoff:
    """Doubling waits up to 5 s with full jitter, so that 200 workers do not return as one."""

    def __init__(self, clock: Clock, first_s: float = _FIRST_S, factor: float = 2.0) -> None:
        self._clock = clock
        self._first_s, self._factor = first_s, factor
        self.reset()

    def reset(self) -> None:
        """There was an answer: the next wait is short again."""
        self._ceiling_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now: half to all of a ceiling that grows with each call."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(_LONGEST_S, ceiling_s * self._factor)
        return ceiling_s * (0.5 + self._clock.random() / 2)

    async def pause(self) -> None:
        """Wait that long."""
        await self._clock.sleep(self.next_s())

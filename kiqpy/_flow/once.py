"""Reporting a repeated problem once: ever, or once for each time that it lasts."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Final, final

from kiqpy.clock import Clock

_MAX_CAUSES: Final = 100  # a cause whose text varies must not fill the log, nor the memory
_SAME_AGAIN_S: Final = 60.0  # what comes and goes all the time is not told each time


@final
class Once:
    """Remembers which causes were reported; after `limit` different ones, reports no more."""

    def __init__(self, limit: int = _MAX_CAUSES) -> None:
        self._limit = limit
        self._causes: set[Hashable] = set()

    def first(self, cause: Hashable) -> bool:
        """Whether to report this cause: True the first time it is seen, while there is room."""
        if cause in self._causes or len(self._causes) >= self._limit:
            return False
        self._causes.add(cause)
        return True


@final
class Troubles:
    """The troubles of each place: which are to be told, and how long those lasted that were.

    A cause is told once while the trouble of its place lasts. When that is over, it may be told
    anew, but not twice in a minute.
    """

    def __init__(self, clock: Clock, limit: int = _MAX_CAUSES) -> None:
        self._clock = clock
        self._limit = limit
        self._told: dict[tuple[str, str], float] = {}  # place and cause -> when
        self._since: dict[str, float] = {}  # of places whose trouble was told and lasts

    def first(self, place: str, cause: str) -> bool:
        """Whether to report this cause now."""
        now = self._clock.monotonic()
        told_at = self._told.get((place, cause), -inf)
        if told_at >= self._since.get(place, inf) or now - told_at < _SAME_AGAIN_S:
            return False
        if len(self._told) >= self._limit:
            self._forget(now)
        if len(self._told) >= self._limit:
            return False
        self._since.setdefault(place, now)
        self._told[place, cause] = now
        return True

    def _forget(self, now: float) -> None:
        lasting = {key: at for key, at in self._told.items() if key[0] in self._since}
        recent = {key: at for key, at in self._told.items() if now - at < _SAME_AGAIN_S}
        self._told = lasting | recent

    def over(self, place: str) -> float | None:
        """The place is well again: for how many seconds it was not; None: nothing was told."""
        since = self._since.pop(place, None)
        return None if since is None else self._clock.monotonic() - since

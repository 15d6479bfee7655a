"""The numbers on every page: read once for all visitors, and kept for the live graph."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple, final

from kiqpy.admin import Admin, Stats
from kiqpy.clock import Clock

INTERVAL_S: Final = 2.0
_MAX_AGE_S: Final = 1.0
_MAX_SAMPLES: Final = 150  # five minutes
_GAP_S: Final = 15.0  # two samples further apart make no rate


class Sample(NamedTuple):
    """The totals at one instant, epoch seconds."""

    at: float
    stats: Stats


class Rate(NamedTuple):
    """Jobs a second between two samples."""

    at: float
    processed: float
    failed: float


@final
class Numbers:
    """Reads the store at most once a second, however many visitors there are."""

    def __init__(self, admin: Callable[[], Admin], clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._reading = asyncio.Lock()
        self._samples: deque[Sample] = deque(maxlen=_MAX_SAMPLES)
        self._read_at: float | None = None  # monotonic; None: what is known is out of date

    async def latest(self) -> Stats:
        """All totals, no older than a second."""
        async with self._reading:
            if self._read_at is None or self._clock.monotonic() - self._read_at > _MAX_AGE_S:
                stats = await self._admin().stats(0)
                self._samples.append(Sample(self._clock.now(), stats))
                self._read_at = self._clock.monotonic()
            return self._samples[-1].stats

    def expire(self) -> None:
        """Read the store at the next call, because something was changed."""
        self._read_at = None

    def rates(self) -> list[Rate]:
        """Between all samples that are kept, oldest first."""
        pairs = pairwise(self._samples)
        return [_rate(*pair) for pair in pairs if 0 < pair[1].at - pair[0].at <= _GAP_S]


def _rate(before: Sample, after: Sample) -> Rate:
    took = after.at - before.at
    processed = max(0, after.stats.processed - before.stats.processed)
    failed = max(0, after.stats.failed - before.stats.failed)
    return Rate(after.at, processed / took, failed / took)

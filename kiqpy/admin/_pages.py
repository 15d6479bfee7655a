"""Which part of a list is asked for: a page of jobs, or the last days of the counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from kiqpy.errors import ArgumentError

_MAX_PER_PAGE: Final = 1000
_MAX_DAYS: Final = 5 * 366  # then the daily counters are gone


def offset(page: int, per: int) -> int:
    """Where a page begins; ArgumentError for a page that can't be."""
    if page < 1:
        raise ArgumentError(f"page={page}: pages begin at 1")
    if not 1 <= per <= _MAX_PER_PAGE:
        raise ArgumentError(f"per={per}: give 1 to {_MAX_PER_PAGE:,}")
    return (page - 1) * per


def last_days(now: float, days: int) -> list[str]:
    """The last days (YYYY-MM-DD, UTC), today first; ArgumentError for a number that can't be."""
    if not 0 <= days <= _MAX_DAYS:
        raise ArgumentError(f"days={days}: give 0 to {_MAX_DAYS}")
    today = datetime.fromtimestamp(now, UTC).date()
    return [(today - timedelta(days=n)).isoformat() for n in range(days)]

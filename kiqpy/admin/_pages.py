"""Pages of what is listed."""

from __future__ import annotations

from typing import Final

from kiqpy.errors import ArgumentError

_MAX_PER_PAGE: Final = 1000


def offset(page: int, per: int) -> int:
    """Where a page begins; ArgumentError for a page that is none."""
    if page < 1:
        raise ArgumentError(f"page={page}: pages begin at 1")
    if not 1 <= per <= _MAX_PER_PAGE:
        raise ArgumentError(f"per={per}: give 1 to {_MAX_PER_PAGE:,}")
    return (page - 1) * per

"""Reporting a repeated problem once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, final

_MAX_CAUSES: Final = 100  # a cause whose text varies must not fill the log, nor the memory


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

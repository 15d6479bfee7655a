"""What there is in memory, and what an operator may do about it."""

from __future__ import annotations

from typing import final

from kiqpy.store._memory_server import MemoryServer


@final
class MemoryCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

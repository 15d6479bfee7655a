"""Periodic ticks and the leader, in memory."""

from __future__ import annotations

from typing import final

from kiqpy.store._memory_server import MemoryServer


@final
class MemoryCalendar:
    """See `kiqpy.store.calendar`."""

    def __init__(self, server: MemoryServer, ident: str) -> None:
        self._server = server
        self._ident = ident

"""The dead set's bounds."""

from __future__ import annotations

from contextlib import suppress
from typing import final

from kiqpy.errors import StoreError
from kiqpy.store.redis.connections import Connections
from kiqpy.store.redis.keys import Keys


@final
class DeadSet:
    """Holds at most `limit` jobs, none longer than `timeout_s`."""

    def __init__(self, connections: Connections, keys: Keys, limit: int, timeout_s: float) -> None:
        self._connections = connections
        self._keys = (keys.dead, keys.trimmed)
        self._bounds = (limit, timeout_s)

    async def trim(self) -> None:
        """Drop what exceeds the bounds; called after each step that buried a job.

        Without an answer it does nothing: the burial is done, and the next one trims.
        """
        with suppress(StoreError):
            await self._connections.call("trim", self._keys, self._bounds)

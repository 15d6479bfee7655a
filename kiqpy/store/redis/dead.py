"""The dead set, bounded by number and age."""

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
        """Delete what exceeds the bounds. Each step that has buried a job calls it.

        Raises nothing if the server does not answer: the job is buried, and the next burial trims.
        """
        with suppress(StoreError):
            await self._connections.call("trim", self._keys, self._bounds)

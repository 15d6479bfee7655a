"""Claims that are on no list: another program, or a restored backup, has taken their key off it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, final

from kiqpy.clock import Clock
from kiqpy.store.redis.connections import Connections, ServerFull
from kiqpy.store.redis.keys import Keys

_SCAN_EVERY_S: Final = 3600.0


@final
class Strays:
    """Puts keys of claims that are missing in the list of private hashes onto it."""

    def __init__(self, connections: Connections, keys: Keys, clock: Clock) -> None:
        self._connections = connections
        self._keys = keys
        self._clock = clock
        self._last_scan = float("-inf")

    async def look(self) -> None:
        """Once an hour, list the keys of claims that are missing in the list of private hashes."""
        if self._clock.monotonic() - self._last_scan < _SCAN_EVERY_S:
            return
        self._last_scan = self._clock.monotonic()
        for pattern in self._keys.strays():
            async for names in self._connections.scan_keys(pattern):
                members = [self._keys.member(name.decode()) for name in names]
                if members:
                    with suppress(ServerFull):  # most are on the list; the rest in an hour
                        await self._connections.command("SADD", self._keys.privs, *members)

"""Periodic ticks and the leader, on the server."""

from __future__ import annotations

from typing import final

from kiqpy.store._keys import Keys
from kiqpy.store._link import Link


@final
class RedisCalendar:
    """See `kiqpy.store.calendar`."""

    def __init__(self, link: Link, keys: Keys, ident: str) -> None:
        self._link = link
        self._keys = keys
        self._ident = ident

"""What there is on the server, and what an operator may do about it."""

from __future__ import annotations

from typing import final

from kiqpy.store._keys import Keys
from kiqpy.store._link import Link


@final
class RedisCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

"""Backups on Redis: one script puts them into the private hash of the process."""

from __future__ import annotations

from typing import final

from kiqpy.clock import Clock
from kiqpy.store.backups import BackupFrame
from kiqpy.store.outgoing import Pushed
from kiqpy.store.redis.connections import Arg, Connections
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.wire import STATE_TTL_MS, kept_of, key_index, lock_words, utc_date


@final
class RedisBackups:
    """The `Backups` of one process."""

    def __init__(self, connections: Connections, keys: Keys, ident: str, clock: Clock) -> None:
        self._connections = connections
        self._keys = keys
        self._ident = ident
        self._clock = clock

    async def keep(self, frame: BackupFrame) -> list[Pushed]:
        """See `Backups.keep`."""
        keys, ident, queue = self._keys, self._ident, frame.queue
        locks = key_index([item.lock.token for item in frame.backups if item.lock])
        args: list[Arg] = [queue, frame.sequence, STATE_TTL_MS, f"{ident}|{queue}"]
        args += (frame.done, frame.failed)
        for item in frame.backups:
            args += (item.delivery, item.payload, *lock_words(item.lock, locks), item.jid)
        names = [
            keys.private(ident, queue),
            keys.state(ident),
            keys.lease(ident),
            keys.privs,
            *keys.stats(utc_date(int(self._clock.now() // 86_400)), queue),
            *map(keys.lock, locks),
        ]
        return kept_of(frame, await self._connections.call("backup", names, args))

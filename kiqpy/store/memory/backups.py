"""Backups in memory."""

from __future__ import annotations

from typing import final

from kiqpy.errors import LeaseLost
from kiqpy.store.backups import Backup, BackupFrame
from kiqpy.store.memory.server import MemoryServer, Owner
from kiqpy.store.outgoing import Pushed


@final
class MemoryBackups:
    """The `Backups` of one process."""

    def __init__(self, server: MemoryServer, ident: str) -> None:
        self._server = server
        self._ident = ident

    async def keep(self, frame: BackupFrame) -> list[Pushed]:
        """See `Backups.keep`."""
        server, owner = self._server, (self._ident, frame.queue)
        with server.gate:
            if (kept := server.backups.replay(owner, frame.sequence)) is not None:
                return kept
            if not server.leased(self._ident):
                raise LeaseLost("this process keeps no backups until a heartbeat succeeds")
            server.privs.add(owner)
            results = [self._keep(owner, backup) for backup in frame.backups]
            server.count(frame.queue, processed=frame.done, failed=frame.failed)
            server.backups.keep(owner, frame.sequence, results)
            return results

    def _keep(self, owner: Owner, backup: Backup) -> Pushed:
        if backup.lock is not None:
            holder = self._server.take(backup.lock, backup.jid, None)
            if holder is not None:
                return Pushed("duplicate", holder)
        self._server.privates[owner][backup.delivery] = backup.payload
        return Pushed("queued")

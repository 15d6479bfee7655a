"""Backups: jobs that begin in the memory of the process that enqueued them, and its record of them.

A backup is a claim that no fetch has made: it lies in the same private hash, under a delivery id of
the same count. So what settles claims settles it, and if the process dies, what rescues claims
rescues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kiqpy.outcome import Lock
from kiqpy.store.outgoing import Pushed


class Backup(NamedTuple):
    """One job of this process, under a delivery id that it has reserved."""

    delivery: int
    jid: str
    payload: bytes
    lock: Lock | None = None


class BackupFrame(NamedTuple):
    """Backups of one queue under a number: a store that gets it twice carries it out once.

    `done` jobs have ended meanwhile without a backup, `failed` of them by a failure: they are
    counted. What belongs to a number never changes.
    """

    queue: str
    sequence: int
    backups: Sequence[Backup]
    done: int = 0
    failed: int = 0


class Backups(Protocol):
    """What a store does for jobs that begin in a process's memory."""

    async def keep(self, frame: BackupFrame) -> list[Pushed]:
        """Put jobs into this process's private hash; one result each, in order.

        "queued": it is there. "duplicate": another job holds its lock, and it is not there.
        A frame that is sent again gets the same results, and brings back nothing that was settled
        since. Raises: LeaseLost: nothing was stored; send it again after a heartbeat.
        StoreUnavailable: send the same frame again.
        """
        ...

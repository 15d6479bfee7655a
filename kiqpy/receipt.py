"""What `enqueue` answers."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["queued", "scheduled", "buffered", "duplicate", "halted"]


class Receipt(NamedTuple):
    """How far a job has come.

    `queued` and `scheduled`: it is in Redis, exactly once. `buffered`: it is in this process's
    memory and on its way. `duplicate`: a unique job with the same key exists; nothing was
    enqueued, and `jid` is the one that holds the lock. `halted`: a client middleware did not let
    the job go on; nothing was enqueued.
    """

    jid: str
    state: State

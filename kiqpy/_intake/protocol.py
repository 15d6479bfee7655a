"""What an app asks of those who take its jobs in.

Its client: `Client` in production, a recording one in tests. And the ways in to it: `Enqueuer`, or
what an extension put around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from kiqpy._declare.checks import Duration, Instant
from kiqpy._flow.thread import LoopThread
from kiqpy.job import Job
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob


class ClientSnapshot(NamedTuple):
    """How far the client is behind: jobs that were accepted and are not confirmed yet.

    `buffered`: how many. `raw_bytes`: of their payloads. `held_bytes`: what they take after
    compression. `oldest_s`: seconds since the oldest was accepted. `last_error`: why the last try
    failed, None when it did not.
    """

    buffered: int
    raw_bytes: int
    held_bytes: int
    oldest_s: float
    last_error: str | None


class JobClient(Protocol):
    """Makes admitted jobs durable. See `Client` for what each method guarantees."""

    def push_nowait(self, outgoing: OutgoingJob) -> Receipt: ...

    async def push(
        self, outgoing: Sequence[OutgoingJob], *, atomic: bool = False
    ) -> list[Receipt]: ...

    async def start(self) -> None: ...

    async def flush(self) -> None: ...

    async def stop(self, within_s: float = 5.0) -> int: ...

    def snapshot(self) -> ClientSnapshot: ...


class JobEnqueuer(Protocol):
    """The ways in for an app's jobs. See `App.enqueue` and its like for what each guarantees."""

    @property
    def thread(self) -> LoopThread:
        """The thread of the app's event loop."""
        ...

    async def one(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt: ...

    def nowait(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt: ...

    async def many(
        self, jobs: Iterable[Job], *, atomic: bool, progress: Callable[[int], object] | None
    ) -> list[Receipt]: ...

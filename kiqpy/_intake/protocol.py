"""What an app asks of its client: `Client` in production, a recording one in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kiqpy.job import Job
from kiqpy.middleware import ClientChain
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob


class ClientSnapshot(NamedTuple):
    """How far the client is behind. `held_bytes` is what it takes after compression."""

    buffered: int
    raw_bytes: int
    held_bytes: int
    oldest_s: float
    last_error: str | None


class JobClient(Protocol):
    """What takes jobs in: `Client`, or what a test stands before it."""

    @property
    def middleware(self) -> ClientChain | None: ...

    def draft(self, job: Job, in_s: float | None = None, at_s: float | None = None) -> Job: ...

    def accept(
        self, job: Job, in_s: float | None = None, at_s: float | None = None
    ) -> OutgoingJob: ...

    def push_nowait(self, parcel: OutgoingJob) -> Receipt: ...

    async def push(
        self, parcels: Sequence[OutgoingJob], *, atomic: bool = False
    ) -> list[Receipt]: ...

    async def start(self) -> None: ...

    async def flush(self) -> None: ...

    async def stop(self, within_s: float) -> int: ...

    def snapshot(self) -> ClientSnapshot: ...

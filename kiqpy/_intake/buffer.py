"""The client's buffer: jobs in order of arrival, counted, and compressed if they must wait long.

They are compressed in this process's memory only; on the wire a job is plain JSON.
"""

from __future__ import annotations

import asyncio
import marshal
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, final

from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

FRAME_JOBS: Final = 1000
FRAME_BYTES: Final = 8 * 2**20
_PACK_FROM: Final = 100  # smaller chunks compress badly

Waiting = asyncio.Future[list[Receipt]]


def size_of(outgoing: Sequence[OutgoingJob]) -> int:
    """Bytes of all payloads."""
    return sum([len(each.payload) for each in outgoing])


class Pending(NamedTuple):
    """The jobs of one push, and the future that the push awaits, if it waits."""

    outgoing: Sequence[OutgoingJob]
    size: int  # bytes of all payloads
    accepted_at: float  # monotonic seconds
    waiting: Waiting | None = None
    atomic: bool = False  # a frame of their own, all or none

    def waits(self) -> bool:
        """Whether the push still waits: it was neither answered nor cancelled."""
        return self.waiting is not None and not self.waiting.done()

    def resolve(self, receipts: list[Receipt]) -> None:
        """Let the push return these, if it still waits."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(receipts)

    def reject(self, error: Exception) -> None:
        """Let the push raise this, if it still waits."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error)


class Chunk(NamedTuple):
    """Jobs that must wait for long, compressed. No push waits for them any more."""

    packed: bytes
    raw_bytes: int
    accepted_at: float

    @classmethod
    def of(cls, pending: Sequence[Pending]) -> Chunk:
        rows = [([each.to_row() for each in p.outgoing], p.accepted_at, p.atomic) for p in pending]
        raw_bytes = sum(p.size for p in pending)
        return cls(zlib.compress(marshal.dumps(rows), 1), raw_bytes, pending[0].accepted_at)

    def open(self) -> list[Pending]:
        rows = marshal.loads(zlib.decompress(self.packed))
        opened = [([OutgoingJob.from_row(row) for row in some], *rest) for some, *rest in rows]
        return [Pending(some, size_of(some), at, None, atomic) for some, at, atomic in opened]


@final
class Buffer:
    """First in, first out. Taken jobs count until `forget`, for they may not be stored yet."""

    def __init__(self) -> None:
        self.jobs = 0
        self.raw_bytes = 0
        self.held_bytes = 0  # after compression
        self._opened: deque[Pending] = deque()  # the oldest: out of a chunk
        self._chunks: deque[Chunk] = deque()
        self._fresh: deque[Pending] = deque()  # the youngest

    def add(self, pending: Pending) -> None:
        """Behind all others."""
        self._fresh.append(pending)
        self._count(len(pending.outgoing), pending.size, pending.size)

    def pack(self) -> None:
        """Compress what is not compressed yet, if that is worth it. The order stays as it is."""
        if len(self._fresh) >= _PACK_FROM:
            chunk = Chunk.of(self._fresh)
            self._fresh.clear()
            self._chunks.append(chunk)
            self._count(0, 0, len(chunk.packed) - chunk.raw_bytes)

    def take(self) -> list[Pending]:
        """The oldest jobs, up to the size of a frame; an atomic push is a frame of its own."""
        taken: list[Pending] = []
        jobs = size = 0
        while jobs < FRAME_JOBS and size < FRAME_BYTES and (source := self._oldest()):
            if taken and (source[0].atomic or taken[0].atomic):
                break
            taken.append(source.popleft())
            jobs += len(taken[-1].outgoing)
            size += taken[-1].size
        return taken

    def _oldest(self) -> deque[Pending]:
        """Where the oldest job is, decompressed; empty if there is none."""
        if not self._opened and self._chunks:
            chunk = self._chunks.popleft()
            self._count(0, 0, chunk.raw_bytes - len(chunk.packed))
            self._opened.extend(chunk.open())
        return self._opened or self._fresh

    def forget(self, taken: Sequence[Pending]) -> None:
        """Stop counting these: they are durable, or refused."""
        size = sum([pending.size for pending in taken])
        self._count(-sum([len(pending.outgoing) for pending in taken]), -size, -size)

    def waiting(self) -> list[Pending]:
        """What was not taken yet and may be waited for."""
        return [*self._opened, *self._fresh]

    def oldest(self) -> float | None:
        """When the oldest of what was not taken yet was accepted."""
        oldest = self._opened or self._chunks or self._fresh
        return oldest[0].accepted_at if oldest else None

    def _count(self, jobs: int, raw: int, held: int) -> None:
        self.jobs += jobs
        self.raw_bytes += raw
        self.held_bytes += held

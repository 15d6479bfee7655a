"""What the client holds: jobs in the order in which they came, counted, packed if they must wait.

Packed means compressed in this process's memory only; on the wire a job is plain JSON.
"""

from __future__ import annotations

import asyncio
import marshal
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

from kiqpy.outcome import Lock
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

FRAME_JOBS: Final = 1000
FRAME_BYTES: Final = 8 * 2**20
_PACK_FROM: Final = 100  # smaller chunks compress badly

Waiting = asyncio.Future[list[Receipt]]


def size_of(parcels: Sequence[OutgoingJob]) -> int:
    """Bytes of all payloads."""
    return sum([len(parcel.payload) for parcel in parcels])


class Pending(NamedTuple):
    """Jobs that came together, and who waits for their receipts, if anybody does."""

    parcels: Sequence[OutgoingJob]
    size: int  # bytes of all payloads
    accepted_at: float  # monotonic
    waiting: Waiting | None = None
    atomic: bool = False  # a frame of their own, all or none

    def waits(self) -> bool:
        """Whether anybody still does."""
        return self.waiting is not None and not self.waiting.done()

    def tell(self, receipts: list[Receipt]) -> None:
        """Answer who waits; once."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(receipts)


class Chunk(NamedTuple):
    """Jobs that have to wait for long, packed; nobody waits for their receipts any more."""

    packed: bytes
    raw_bytes: int
    accepted_at: float

    @classmethod
    def of(cls, pending: Sequence[Pending]) -> Chunk:
        rows = [([_row(x) for x in p.parcels], p.accepted_at, p.atomic) for p in pending]
        raw_bytes = sum(p.size for p in pending)
        return cls(zlib.compress(marshal.dumps(rows), 1), raw_bytes, pending[0].accepted_at)

    def open(self) -> list[Pending]:
        rows = marshal.loads(zlib.decompress(self.packed))
        opened = [([_parcel(row) for row in some], at, atomic) for some, at, atomic in rows]
        return [Pending(some, size_of(some), at, None, atomic) for some, at, atomic in opened]


def _row(parcel: OutgoingJob) -> tuple[object, ...]:
    return (*parcel[:-1], parcel.lock and tuple(parcel.lock))


def _parcel(row: tuple[Any, ...]) -> OutgoingJob:
    queue, jid, payload, in_s, at_s, lock = row
    return OutgoingJob(queue, jid, payload, in_s, at_s, lock and Lock(*lock))


@final
class Buffer:
    """First in, first out. What is taken counts until `forget`: it is not in the store yet."""

    def __init__(self) -> None:
        self.jobs = self.raw_bytes = self.held_bytes = 0
        self._opened: deque[Pending] = deque()  # the oldest: what a chunk held
        self._chunks: deque[Chunk] = deque()
        self._fresh: deque[Pending] = deque()  # the youngest

    def add(self, pending: Pending) -> None:
        self._fresh.append(pending)
        self._count(len(pending.parcels), pending.size, pending.size)

    def pack(self) -> None:
        """Compress what is not compressed, if that is worth it; the order stays as it is."""
        if len(self._fresh) >= _PACK_FROM:
            chunk = Chunk.of(self._fresh)
            self._fresh.clear()
            self._chunks.append(chunk)
            self._count(0, 0, len(chunk.packed) - chunk.raw_bytes)

    def take(self) -> list[Pending]:
        """The oldest jobs, up to a frame's measure; what is atomic is a frame of its own."""
        taken: list[Pending] = []
        jobs = size = 0
        while jobs < FRAME_JOBS and size < FRAME_BYTES and (source := self._oldest()):
            if taken and (source[0].atomic or taken[0].atomic):
                break
            taken.append(source.popleft())
            jobs += len(taken[-1].parcels)
            size += taken[-1].size
        return taken

    def _oldest(self) -> deque[Pending]:
        """Where the next job comes from, unpacked; empty if there is none."""
        if not self._opened and self._chunks:
            chunk = self._chunks.popleft()
            self._count(0, 0, chunk.raw_bytes - len(chunk.packed))
            self._opened.extend(chunk.open())
        return self._opened or self._fresh

    def forget(self, taken: Sequence[Pending]) -> None:
        """These are durable now."""
        size = sum([pending.size for pending in taken])
        self._count(-sum([len(pending.parcels) for pending in taken]), -size, -size)

    def waiting(self) -> list[Pending]:
        """What was not taken yet and may have somebody who waits."""
        return [*self._opened, *self._fresh]

    def oldest(self) -> float | None:
        """When the oldest of what was not taken yet was accepted."""
        oldest = self._opened or self._chunks or self._fresh
        return oldest[0].accepted_at if oldest else None

    def _count(self, jobs: int, raw: int, held: int) -> None:
        self.jobs += jobs
        self.raw_bytes += raw
        self.held_bytes += held

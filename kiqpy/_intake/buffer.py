"""The client's buffer: jobs in order of arrival, counted, and compressed if they must wait long.

They are compressed in this process's memory only; on the wire a job is plain JSON.
"""

from __future__ import annotations

import asyncio
import marshal
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast, final

from kiqpy._flow.pages import pages
from kiqpy.errors import StoreRefused
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

FRAME_JOBS: Final = 1000
FRAME_BYTES: Final = 8 * 2**20
_PACK_FROM: Final = 100  # smaller chunks compress badly


def size_of(outgoing: Sequence[OutgoingJob]) -> int:
    """Bytes of all payloads."""
    return sum([len(each.payload) for each in outgoing])


@final
class Waiting:
    """What a push awaits: an answer to each of its `jobs`, in order, however they are sent."""

    __slots__ = ("_answers", "_missing", "future")

    def __init__(self, jobs: int) -> None:
        self.future: asyncio.Future[list[Receipt]] = asyncio.get_running_loop().create_future()
        self._answers: list[Receipt | StoreRefused | None] = [None] * jobs
        self._missing = jobs

    def answer(self, first: int, answers: Sequence[Receipt | StoreRefused]) -> None:
        """Answer some jobs, from the `first` on; the last answer lets the push return or raise."""
        self._answers[first : first + len(answers)] = answers
        self._missing -= len(answers)
        if self._missing == 0 and not self.future.done():
            self._end()

    def _end(self) -> None:
        refused = [each for each in self._answers if isinstance(each, StoreRefused)]
        if not refused:
            self.future.set_result(cast("list[Receipt]", self._answers))
        elif len(self._answers) == 1:
            self.future.set_exception(refused[0])
        else:
            self.future.set_exception(
                StoreRefused(f"{len(refused):,} of {len(self._answers):,} jobs: {refused[0]}")
            )


class Pending(NamedTuple):
    """Jobs of one push, from its `first` on, and what the push awaits, if it waits."""

    outgoing: Sequence[OutgoingJob]
    size: int  # bytes of all payloads
    accepted_at: float  # monotonic seconds
    waiting: Waiting | None = None
    atomic: bool = False  # a frame of their own, all or none
    first: int = 0

    def waits(self) -> bool:
        """Whether the push still waits: it was neither answered nor cancelled."""
        return self.waiting is not None and not self.waiting.future.done()

    def answer(self, answers: Sequence[Receipt | StoreRefused]) -> None:
        """Answer these jobs, if the push still waits."""
        if self.waiting is not None and not self.waiting.future.done():
            self.waiting.answer(self.first, answers)

    def parts(self, max_jobs: int, max_bytes: int) -> Iterator[Pending]:
        """The same jobs in order, in as many parts as these bounds ask for; atomic ones as one."""
        if self.atomic or (len(self.outgoing) <= max_jobs and self.size <= max_bytes):
            yield self
            return
        first = self.first
        for page in pages(self.outgoing, max_jobs, max_bytes, lambda each: len(each.payload)):
            yield self._replace(outgoing=page, size=size_of(page), first=first)
            first += len(page)


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

    def take(self, max_jobs: int = FRAME_JOBS) -> list[Pending]:
        """The oldest jobs, up to the size of a frame; an atomic push is a frame of its own."""
        taken: list[Pending] = []
        jobs = size = 0
        while jobs < max_jobs and (source := self._oldest()):
            alone = source[0].atomic or size + source[0].size > FRAME_BYTES
            if taken and (alone or taken[0].atomic):
                break
            taken.append(source.popleft())
            jobs += len(taken[-1].outgoing)
            size += taken[-1].size
        return taken

    def put_back(self, taken: Sequence[Pending]) -> None:
        """Before all others, as single jobs: they are to be taken again, in smaller frames."""
        singles = [part for pending in taken for part in pending.parts(1, 0)]
        self._opened.extendleft(reversed(singles))

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

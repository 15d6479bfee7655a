"""The ways in: one job, many, or one without waiting. Each is admitted, then pushed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, final

from kiqpy._declare.checks import Duration, Instant
from kiqpy._flow.thread import LoopThread
from kiqpy._intake.admission import Admission
from kiqpy._intake.buffer import FRAME_BYTES, FRAME_JOBS, size_of
from kiqpy._intake.protocol import JobClient
from kiqpy.errors import ArgumentError
from kiqpy.job import Job
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

_SLICE_JOBS: Final = 1000


@final
class Enqueuer:
    """What `App.enqueue` and its like do, for one started app; `thread` runs its event loop."""

    def __init__(self, admission: Admission, client: JobClient) -> None:
        self._admission = admission
        self._client = client
        self.thread = LoopThread()

    async def one(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        """See `App.enqueue`."""
        admitted = await self._admission(job, in_, at)
        if isinstance(admitted, Receipt):
            return admitted
        return (await self._client.push((admitted,)))[0]

    def nowait(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        """See `App.enqueue_nowait`. Admitted in the caller's thread, buffered in the loop's."""
        admitted = self._admission.at_once(job, in_, at)
        if isinstance(admitted, Receipt):
            return admitted
        if self.thread.is_here():
            return self._client.push_nowait(admitted)
        return self.thread.run(self._push_nowait(admitted))

    async def _push_nowait(self, admitted: OutgoingJob) -> Receipt:
        return self._client.push_nowait(admitted)

    async def many(
        self, jobs: Iterable[Job], *, atomic: bool, progress: Callable[[int], object] | None
    ) -> list[Receipt]:
        """See `App.enqueue_many`."""
        if atomic:
            return await self._push(await self._admission.many(jobs), atomic=True)
        receipts: list[Receipt] = []
        source = iter(jobs)
        while part := await self._admission.many(islice(source, _SLICE_JOBS)):
            receipts += await self._push(part, atomic=False)
            if progress is not None:
                progress(len(receipts))
        return receipts

    async def _push(
        self, admitted: Sequence[OutgoingJob | Receipt], *, atomic: bool
    ) -> list[Receipt]:
        """Push what is to be pushed as one batch; one receipt each, in order."""
        outgoing = [each for each in admitted if isinstance(each, OutgoingJob)]
        if atomic:
            _check_atomic(outgoing)
        pushed = iter(await self._client.push(outgoing, atomic=atomic) if outgoing else ())
        return [each if isinstance(each, Receipt) else next(pushed) for each in admitted]


def _check_atomic(outgoing: Sequence[OutgoingJob]) -> None:
    """ArgumentError for more than one frame, the most that the store takes in one step."""
    size = size_of(outgoing)
    if len(outgoing) > FRAME_JOBS or size > FRAME_BYTES:
        raise ArgumentError(
            f"{len(outgoing):,} jobs of {size:,} bytes are too many for one step (1,000 jobs, "
            "8 MiB): use atomic=False, or smaller groups"
        )

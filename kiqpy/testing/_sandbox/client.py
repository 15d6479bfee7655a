"""The client of an app in a test mode: records every job; in inline mode it runs it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import final

from kiqpy._flow.tasks import ended
from kiqpy._intake.protocol import ClientSnapshot, JobClient
from kiqpy.clock import Clock
from kiqpy.errors import KiqError
from kiqpy.job import decode
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob
from kiqpy.testing._sandbox.recorder import EnqueueRecorder
from kiqpy.testing._sandbox.scope import Mode

Push = Callable[[OutgoingJob], Awaitable[Receipt]]
RunInline = Callable[[OutgoingJob, Push], Awaitable[Receipt]]


@final
class RecordingClient:
    """A `JobClient` before the app's own client."""

    def __init__(
        self,
        client: JobClient,
        recorder: EnqueueRecorder,
        clock: Clock,
        mode: Callable[[], Mode],
        run: RunInline,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._mode = mode
        self._run = run
        self._tasks: set[asyncio.Task[list[Receipt]]] = set()
        self._errors: list[BaseException] = []

    async def start(self) -> None:
        await self._client.start()

    def snapshot(self) -> ClientSnapshot:
        return self._client.snapshot()

    async def push(self, outgoing: Sequence[OutgoingJob], *, atomic: bool = False) -> list[Receipt]:
        """As `Client.push`; inline, it returns when the jobs have run and raises what they do."""
        outgoing = [each._replace(live=None) for each in outgoing]  # a local job waits, too
        for each in outgoing:
            self._record(each)
        if self._mode() == "inline":
            return [await self._at_once(each) for each in outgoing]
        return await self._store(outgoing, atomic)

    def push_nowait(self, outgoing: OutgoingJob) -> Receipt:
        """Recorded at once. Call `flush` to be sure that it ran, or was no duplicate."""
        outgoing = outgoing._replace(live=None)
        self._record(outgoing)
        task = asyncio.create_task(self.push((outgoing,)), name="kiqpy:nowait")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return Receipt(outgoing.jid, "buffered")

    def _record(self, outgoing: OutgoingJob) -> None:
        job = decode(outgoing.payload)
        job.in_s, job.at_s = outgoing.in_s, outgoing.at_s
        self._recorder.add(job, self._clock.now())

    async def _store(self, outgoing: Sequence[OutgoingJob], atomic: bool = False) -> list[Receipt]:
        try:
            receipts = await self._client.push(outgoing, atomic=atomic)
        except KiqError:
            for each in outgoing:
                self._recorder.discard(each.jid)
            raise
        for each, receipt in zip(outgoing, receipts, strict=True):
            if receipt.state == "duplicate":
                self._recorder.discard(each.jid)
        return receipts

    async def _at_once(self, outgoing: OutgoingJob) -> Receipt:
        receipt = await self._run(outgoing._replace(in_s=None, at_s=None), self._store_one)
        if receipt.state == "queued" and (outgoing.in_s is not None or outgoing.at_s is not None):
            return Receipt(receipt.jid, "scheduled")
        return receipt

    async def _store_one(self, outgoing: OutgoingJob) -> Receipt:
        return (await self._store((outgoing,)))[0]

    def _ended(self, task: asyncio.Task[list[Receipt]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def flush(self) -> None:
        """Return when all that was enqueued is stored (inline: has run); raise what one raised."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.flush()
        if self._errors:
            errors, self._errors = self._errors, []
            raise errors[0]

    async def stop(self, within_s: float = 5.0) -> int:
        await ended(set(self._tasks), within_s, self._clock)
        for task in self._tasks:
            task.cancel()
        return await self._client.stop(within_s)

"""The client of an app in a test mode: every job is noted; inline, it is run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, final

from kiqpy._flow.tasks import ended
from kiqpy._intake.client import Client
from kiqpy._sandbox.ledger import Ledger
from kiqpy._sandbox.scope import Mode
from kiqpy.clock import Clock
from kiqpy.errors import KiqError
from kiqpy.job import decode
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

Push = Callable[[OutgoingJob], Awaitable[Receipt]]
Run = Callable[[OutgoingJob, Push], Awaitable[Receipt]]


@final
class SandboxClient:
    """Stands before a `Client`, and is one for whoever calls it."""

    def __init__(
        self, client: Client, ledger: Ledger, clock: Clock, mode: Callable[[], Mode], run: Run
    ) -> None:
        self._client, self._ledger, self._clock = client, ledger, clock
        self._mode, self._run = mode, run
        self._tasks: set[asyncio.Task[list[Receipt]]] = set()
        self._errors: list[BaseException] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def push(self, parcels: Sequence[OutgoingJob], *, atomic: bool = False) -> list[Receipt]:
        """As `Client.push`; inline, it returns when the jobs have run and raises what they do."""
        for parcel in parcels:
            self._note(parcel)
        if self._mode() == "inline":
            return [await self._at_once(parcel) for parcel in parcels]
        return await self._store(parcels, atomic)

    def push_nowait(self, parcel: OutgoingJob) -> Receipt:
        """Noted at once; who wants to be sure that it ran, or was no duplicate, calls `flush`."""
        self._note(parcel)
        task = asyncio.create_task(self.push((parcel,)), name="kiqpy:nowait")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return Receipt(parcel.jid, "buffered")

    def _note(self, parcel: OutgoingJob) -> None:
        job = decode(parcel.payload)
        job.in_s, job.at_s = parcel.in_s, parcel.at_s
        self._ledger.note(job, self._clock.now())

    async def _store(self, parcels: Sequence[OutgoingJob], atomic: bool = False) -> list[Receipt]:
        try:
            receipts = await self._client.push(parcels, atomic=atomic)
        except KiqError:
            for parcel in parcels:
                self._ledger.strike(parcel.jid)
            raise
        for parcel, receipt in zip(parcels, receipts, strict=True):
            if receipt.state == "duplicate":
                self._ledger.strike(parcel.jid)
        return receipts

    async def _at_once(self, parcel: OutgoingJob) -> Receipt:
        receipt = await self._run(parcel._replace(in_s=None, at_s=None), self._store_one)
        if receipt.state == "queued" and (parcel.in_s is not None or parcel.at_s is not None):
            return receipt._replace(state="scheduled")
        return receipt

    async def _store_one(self, parcel: OutgoingJob) -> Receipt:
        return (await self._store((parcel,)))[0]

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

    async def stop(self, within_s: float) -> int:
        await ended(set(self._tasks), within_s, self._clock)
        for task in self._tasks:
            task.cancel()
        return await self._client.stop(within_s)

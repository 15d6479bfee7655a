"""The client of an app with local workers: their jobs begin here, all others go to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, final

from kiqpy._extensions.extension import RunningQueues
from kiqpy._extensions.local.journal import Journal
from kiqpy._extensions.local.source import LocalQueue, LocalSource
from kiqpy._intake.protocol import ClientSnapshot, JobClient
from kiqpy.clock import Clock
from kiqpy.errors import KiqError, LifecycleError
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob, Pushed

Tell = Callable[[OutgoingJob, str], object]  # a job was enqueued, and how far it has come


class LocalSettings(NamedTuple):
    """`server`: whether jobs run here. `limit`: how many of a queue are held in memory."""

    server: bool
    confirm_timeout_s: float
    limit: int


class Local(NamedTuple):
    """One local queue."""

    queue: LocalQueue
    journal: Journal


@final
class LocalClient:
    """A `JobClient` before the app's own.

    A job that must wait (a delay), that comes while the process claims no jobs, that is beyond the
    limit, or that is one of an atomic batch, goes to its queue in Redis like any other.
    """

    def __init__(
        self,
        client: JobClient,
        queues: Mapping[str, Local],
        pipelines: Callable[[], RunningQueues],
        clock: Clock,
        settings: LocalSettings,
        tell: Tell,
    ) -> None:
        self._client = client
        self._queues = queues
        self._pipelines = pipelines
        self._clock = clock
        self._settings = settings
        self._tell = tell

    # -- taking jobs in

    def push_nowait(self, outgoing: OutgoingJob) -> Receipt:
        """Raises LifecycleError for a local job in an app that only enqueues."""
        self._check(outgoing)
        if (source := self._source(outgoing)) is None:
            return self._client.push_nowait(outgoing)
        self._begin(outgoing, source, None)
        return Receipt(outgoing.jid, "buffered")

    async def push(self, outgoing: Sequence[OutgoingJob], *, atomic: bool = False) -> list[Receipt]:
        """As `Client.push`. A local job is confirmed when its backup is, if it has to be."""
        for each in outgoing:
            self._check(each)
        sources = [None if atomic and len(outgoing) > 1 else self._source(o) for o in outgoing]
        if all(source is None for source in sources):
            return await self._client.push(outgoing, atomic=atomic)
        pushes = [
            self._push_one(each) if source is None else self._run(each, source)
            for each, source in zip(outgoing, sources, strict=True)
        ]
        return await asyncio.gather(*pushes) if len(pushes) > 1 else [await pushes[0]]

    async def _push_one(self, outgoing: OutgoingJob) -> Receipt:
        return (await self._client.push((outgoing,)))[0]

    def _check(self, outgoing: OutgoingJob) -> None:
        if outgoing.live is not None and not self._settings.server:
            raise LifecycleError(
                f"job {outgoing.jid} is of a local worker, which runs where it is enqueued, and "
                "this app only enqueues: start the app as a server, or leave out local=True"
            )

    def _source(self, outgoing: OutgoingJob) -> LocalSource | None:
        """Where the job begins; None: in Redis."""
        later = outgoing.in_s is not None or outgoing.at_s is not None
        if outgoing.live is None or later or outgoing.lane:
            return None
        local = self._queues.get(outgoing.queue)
        if local is None or not self._pipelines().claims_from(outgoing.queue):
            return None
        source = local.queue.made
        full = source is None or max(source.size(), local.journal.size()) >= self._settings.limit
        return None if full else source

    async def _run(self, outgoing: OutgoingJob, source: LocalSource) -> Receipt:
        assert outgoing.live is not None
        if outgoing.live.persist != "before":
            self._begin(outgoing, source, None)
            return Receipt(outgoing.jid, "buffered")
        confirmed: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._begin(outgoing, source, confirmed)
        timer = self._clock.call_later(
            self._settings.confirm_timeout_s,
            lambda: _resolve(confirmed, Receipt(outgoing.jid, "buffered")),
        )
        try:
            return await confirmed
        finally:
            timer.cancel()

    def _begin(
        self, outgoing: OutgoingJob, source: LocalSource, confirmed: asyncio.Future[Receipt] | None
    ) -> None:
        """Feed the job: now, or when it is on record."""
        assert outgoing.live is not None
        journal, persist = self._queues[outgoing.queue].journal, outgoing.live.persist
        if persist != "before":
            source.feed(journal.accept(outgoing, write=persist == "alongside"))
            self._tell(outgoing, "buffered")
            return

        def on_kept(result: Pushed) -> None:
            if result.state == "duplicate":
                return _resolve(confirmed, Receipt(result.detail, "duplicate"))
            source.feed(claim)
            self._tell(outgoing, "queued")
            _resolve(confirmed, Receipt(outgoing.jid, "queued"))

        claim = journal.accept(outgoing, write=True, on_kept=on_kept)

    # -- as the client

    async def start(self) -> None:
        await self._client.start()

    async def flush(self) -> None:
        """Return when every job accepted so far is in Redis, or has ended."""
        for local in self._queues.values():
            await local.journal.flush()
        await self._client.flush()

    async def stop(self, within_s: float = 5.0) -> int:
        """As `Client.stop`; what is not on record yet is sent by the client."""
        lost = 0
        for local in self._queues.values():
            for each in local.journal.surrender():
                try:
                    self._client.push_nowait(each)
                except KiqError:  # it is full: the caller is told how many
                    lost += 1
        return lost + await self._client.stop(within_s)

    def snapshot(self) -> ClientSnapshot:
        here = sum(local.journal.size() for local in self._queues.values())
        snapshot = self._client.snapshot()
        return snapshot._replace(buffered=snapshot.buffered + here)


def _resolve(confirmed: asyncio.Future[Receipt] | None, receipt: Receipt) -> None:
    """Let the push return this, if it still waits."""
    if confirmed is not None and not confirmed.done():
        confirmed.set_result(receipt)

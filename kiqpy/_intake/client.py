"""Where jobs leave the user's hands: accepted at memory speed, then made durable, once each.

Theory of operation. `push` encodes a job and puts it into the buffer; one flusher takes what has
piled up, gives it a sequence number, and sends that frame until there is an answer. A frame is
frozen: whatever is sent again under a number is the same bytes, so the store can answer a repeat
from its notes and a lost reply doubles nothing. Who waits is told with the frame's results. When
the store stays away, those who wait are told `buffered`; what has to wait longer is kept as
compressed chunks, in order, bounded in jobs and in bytes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

from kiqpy._declare.checks import queue_name
from kiqpy._flow.pause import Backoff
from kiqpy._flow.tasks import ended
from kiqpy._intake.buffer import Buffer, Pending, Waiting, size_of
from kiqpy._intake.protocol import ClientSnapshot
from kiqpy._intake.results import PushResults, buffered
from kiqpy._payload.arguments import check_args
from kiqpy._payload.json import encode
from kiqpy._rules.unique import lock_for
from kiqpy.clock import Clock
from kiqpy.errors import (
    ArgumentError,
    BufferFull,
    LifecycleError,
    StoreRefused,
    StoreUnavailable,
)
from kiqpy.event import Event, FlushFailed, FlushRestored
from kiqpy.job import Job
from kiqpy.middleware import compile_client
from kiqpy.outcome import Lock
from kiqpy.receipt import Receipt
from kiqpy.store import Frame, Intake, OutgoingJob, Pushed


class ClientSettings(NamedTuple):
    """The client's share of the app's configuration."""

    retry: bool | int = True
    flush_interval_s: float = 0.01
    confirm_timeout_s: float = 5.0
    push_timeout_s: float = 10.0
    buffer_jobs: int = 100_000
    buffer_bytes: int = 64 * 2**20
    max_payload: int = 2**20
    middleware: tuple[Any, ...] = ()


@final
class Client:
    """Accepts jobs, keeps them in order, and makes each durable exactly once.

    A job that was accepted is in exactly one of: the buffer, the store. Cancelling a `push` does
    not take the job back. After a fork the child's buffer is empty and pushing raises.
    """

    def __init__(
        self,
        store: Intake,
        clock: Clock,
        settings: ClientSettings,
        tell: Callable[[Event], None] = lambda _event: None,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
        hears: Callable[[type[Event]], object] = lambda _kind: False,
    ) -> None:
        self._store, self._clock, self._settings, self._tell = store, clock, settings, tell
        self._on_failure = on_failure
        self._answers = PushResults(tell, hears)
        self.middleware = compile_client(settings.middleware)
        self._buffer = Buffer()
        self._pid = os.getpid()
        self._nonce = clock.token(16)
        self._sequence = 0
        self._urgent = asyncio.Event()
        self._any = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending: list[Pending] = []
        self._away_since: float | None = None
        self._outage = False
        self._last_error: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    # -- taking jobs in

    def draft(self, job: Job, in_s: float | None = None, at_s: float | None = None) -> Job:
        """A copy for middleware to change, with its jid; due as the call says, or the job."""
        draft = Job.from_payload({**job.payload, "args": list(job.args)})
        draft.payload["jid"] = job.jid or self._clock.token(12)
        own = in_s is None and at_s is None
        draft.in_s, draft.at_s = (job.in_s, job.at_s) if own else (in_s, at_s)
        return draft

    def accept(self, job: Job, in_s: float | None = None, at_s: float | None = None) -> OutgoingJob:
        """The job as it will travel, with its jid. Raises ArgumentError; nothing is buffered."""
        now = self._clock.now()
        if in_s is None and at_s is None:
            in_s, at_s = job.in_s, None if job.in_s is not None else job.at_s
        if at_s is not None and at_s <= now:
            at_s = None
        if in_s is not None and in_s <= 0:
            in_s = None
        payload = dict(job.payload)
        jid = payload["jid"] = payload.get("jid") or self._clock.token(12)
        payload.setdefault("retry", self._settings.retry)
        payload.setdefault("created_at", now)
        if at_s is None and in_s is None:
            payload["enqueued_at"] = now
        lock: Lock | None = None
        if "expires_in" in payload or "unique_for" in payload:
            lock = _terms(payload, now, at_s - now if at_s is not None else in_s or 0.0)
        check_args(job.args)
        raw = encode(payload, checked=True)
        if len(raw) > self._settings.max_payload:
            raise ArgumentError(
                f"the job is {len(raw):,} bytes, more than max_payload="
                f"{self._settings.max_payload:,}: pass a reference instead of the data"
            )
        return OutgoingJob(queue_name(job.queue), str(jid), raw, in_s, at_s, lock)

    def push_nowait(self, parcel: OutgoingJob) -> Receipt:
        """Buffer and go on; BufferFull if there is no room."""
        size = len(parcel.payload)
        self._admit(1, size)
        self._add(Pending((parcel,), size, self._clock.monotonic()))
        self._any.set()
        return Receipt(parcel.jid, "buffered")

    async def push(self, parcels: Sequence[OutgoingJob], *, atomic: bool = False) -> list[Receipt]:
        """Return when the store has confirmed the jobs, or `buffered` once it is known to be away.

        Raises: BufferFull after `push_timeout` without room; StoreRefused when the store says no.
        Cancel: the jobs stay accepted.
        """
        size, accepted_at = size_of(parcels), self._clock.monotonic()
        try:
            self._admit(len(parcels), size)
        except BufferFull:
            await self._room_for(len(parcels), size)
        if self._outage:
            pending = Pending(parcels, size, accepted_at, None, atomic)
            self._add(pending)
            self._any.set()
            return buffered(pending)
        waiting: Waiting = asyncio.get_running_loop().create_future()
        self._add(Pending(parcels, size, accepted_at, waiting, atomic))
        self._urgent.set()
        self._any.set()
        return await waiting

    def _check_process(self) -> None:
        if self._forked():
            raise LifecycleError(
                "this process was forked from one that runs the app: start an app here"
            )
        if self._stopping:
            raise LifecycleError("the app has stopped and takes no more jobs")

    def _forked(self) -> bool:
        """Whether this is a forked child; then the parent sends what was accepted, not we."""
        forked = os.getpid() != self._pid
        if forked and self._buffer.jobs:
            self._buffer, self._sending = Buffer(), []
        return forked

    def _admit(self, jobs: int, size: int) -> None:
        self._check_process()
        held, limits = self._buffer, self._settings
        if held.jobs + jobs > limits.buffer_jobs or held.held_bytes + size > limits.buffer_bytes:
            raise BufferFull(
                f"{held.jobs:,} jobs ({held.held_bytes:,} bytes) wait for the store"
                f"{': ' + self._last_error if self._last_error else ''}; raise buffer_limit, or "
                "enqueue more slowly"
            )

    async def _room_for(self, jobs: int, size: int) -> None:
        late = self._clock.monotonic() + self._settings.push_timeout_s
        while True:
            try:
                return self._admit(jobs, size)
            except BufferFull:
                left_s = late - self._clock.monotonic()
                if left_s <= 0:
                    raise
            self._room.clear()
            timer = self._clock.call_later(left_s, self._room.set)
            try:
                await self._room.wait()
            finally:
                timer.cancel()

    def _add(self, pending: Pending) -> None:
        self._buffer.add(pending)
        self._idle.clear()
        if self._outage:
            self._buffer.pack()

    # -- sending

    async def start(self) -> None:
        """Begin to flush; under a new nonce, so that sequence numbers are never used twice."""
        self._nonce, self._sequence = self._clock.token(16), 0
        self._stopping = self._outage = False
        self._task = asyncio.create_task(self._flush_forever(), name="kiqpy:client")
        self._task.add_done_callback(self._broken)

    def _broken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def _flush_forever(self) -> None:
        while True:
            await self._any.wait()
            if not self._urgent.is_set() and not self._stopping:
                await self._linger()
            self._any.clear()
            self._urgent.clear()
            while self._buffer.jobs:
                await self._flush_once()

    async def _linger(self) -> None:
        """Nobody waits: let more come together."""
        timer = self._clock.call_later(self._settings.flush_interval_s, self._urgent.set)
        try:
            await self._urgent.wait()
        finally:
            timer.cancel()

    async def _flush_once(self) -> None:
        self._sending = self._buffer.take()
        now, atomic = self._clock.monotonic(), self._sending[0].atomic
        parcels = [
            parcel if parcel.in_s is None else _aged(parcel, now - pending.accepted_at)
            for pending in self._sending
            for parcel in pending.parcels
        ]
        self._sequence += 1
        results = await self._deliver(Frame(self._nonce, self._sequence, parcels, now, atomic))
        sent, self._sending = self._sending, []
        self._buffer.forget(sent)
        self._room.set()
        if not self._buffer.jobs:
            self._idle.set()
        self._answers.give(sent, results)

    async def _deliver(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        """Send one frame until there is an answer."""
        backoff = Backoff(self._clock, max(self._settings.flush_interval_s, 0.001), 1.5)
        timer = self._clock.call_later(self._settings.confirm_timeout_s, self._give_up_waiting)
        try:
            while True:
                try:
                    results = await self._store.push(frame)
                except StoreUnavailable as error:
                    self._note_failure(error)
                    await backoff.pause()
                except StoreRefused as error:
                    return [Pushed("refused", str(error))] * len(frame.items)
                else:
                    self._note_success()
                    return results
        finally:
            timer.cancel()

    def _note_failure(self, error: StoreUnavailable) -> None:
        self._last_error = str(error)
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            self._tell(FlushFailed(str(error), self._buffer.jobs))

    def _note_success(self) -> None:
        if self._away_since is not None:
            self._tell(FlushRestored(self._clock.monotonic() - self._away_since))
        self._away_since = self._last_error = None
        self._outage = False

    def _give_up_waiting(self) -> None:
        """The store has been silent for `confirm_timeout`: tell all who wait, and all to come."""
        self._outage = True
        for pending in (*self._sending, *self._buffer.waiting()):
            pending.tell(buffered(pending))

    async def flush(self) -> None:
        """Return when everything accepted so far is durable. Cancel: safe, flushing goes on."""
        self._urgent.set()
        self._any.set()
        await self._idle.wait()

    async def stop(self, within_s: float) -> int:
        """Flush, for at most `within_s`, then stop; how many jobs could not be made durable."""
        self._stopping = True
        if self._task is None:
            return self._buffer.jobs
        self._urgent.set()
        self._any.set()
        flushed = asyncio.ensure_future(self._idle.wait())
        await ended({flushed}, within_s, self._clock)
        for task in (flushed, self._task):
            task.cancel()
        await asyncio.wait({self._task, flushed})
        self._task = None
        self._give_up_waiting()
        return self._buffer.jobs

    def snapshot(self) -> ClientSnapshot:
        """How far behind the client is, now."""
        self._forked()
        held = self._buffer
        since = self._sending[0].accepted_at if self._sending else held.oldest()
        oldest_s = 0.0 if since is None else self._clock.monotonic() - since
        return ClientSnapshot(
            held.jobs, held.raw_bytes, held.held_bytes, oldest_s, self._last_error
        )


def _terms(payload: dict[str, Any], now: float, wait_s: float) -> Lock | None:
    """When a job expires, and its lock: both count from when it is due."""
    if isinstance(expires_in := payload.get("expires_in"), int | float):
        payload["expires_at"] = now + wait_s + expires_in
    return lock_for(payload, now, wait_s) if "unique_for" in payload else None


def _aged(parcel: OutgoingJob, held_s: float) -> OutgoingJob:
    """A delay counts from the call, however long the job was held here."""
    assert parcel.in_s is not None
    return parcel._replace(in_s=parcel.in_s - held_s)

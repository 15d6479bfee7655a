"""The client: buffers jobs at memory speed, then makes each durable in the store, once.

Theory of operation. `push` puts admitted jobs into the buffer. One flusher takes what has piled
up, gives it a sequence number, and sends that frame until the store answers. A frame is frozen:
whatever is sent again under a number is the same bytes, so the store can answer a repeat from its
notes, and a lost reply doubles nothing. The frame's results resolve the pushes that wait for them.
A frame that the store refuses, or hangs up on again and again, is withdrawn. Once the store has
confirmed that it will never be stored, its jobs are sent in smaller frames (`Sender`).
When the store stays away, those pushes return `buffered`; jobs that must wait longer are kept as
compressed chunks, in order, bounded in jobs and in bytes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, final

from kiqpy._flow.pause import wait
from kiqpy._flow.service import StartStop
from kiqpy._flow.tasks import ended
from kiqpy._flow.thread import LoopThread
from kiqpy._intake.buffer import FRAME_BYTES, FRAME_JOBS, Buffer, Pending, Waiting, size_of
from kiqpy._intake.protocol import ClientSnapshot
from kiqpy._intake.results import PushResults, buffered
from kiqpy._intake.sender import Sender
from kiqpy.clock import Clock
from kiqpy.errors import BufferFull, LifecycleError, StoreUnavailable
from kiqpy.event import Event, FlushFailed, FlushRestored
from kiqpy.receipt import Receipt
from kiqpy.store import Frame, Intake, OutgoingJob, Pushed

_NOT_SENDING: Final = (
    "the task kiqpy:client, which sends what is enqueued, was cancelled or failed: restart the app"
)


class ClientSettings(NamedTuple):
    """The client's share of the app's configuration."""

    flush_interval_s: float = 0.01
    confirm_timeout_s: float = 5.0
    push_timeout_s: float = 10.0
    buffer_jobs: int = 100_000
    buffer_bytes: int = 64 * 2**20


@final
class Client:
    """Takes in jobs, keeps them in order, and makes each durable exactly once.

    A job that was accepted is in exactly one of: the buffer, the store. Cancelling a `push` does
    not take the job back. After a fork the child's buffer is empty and pushing raises.
    """

    def __init__(
        self,
        store: Intake,
        clock: Clock,
        settings: ClientSettings,
        emit: Callable[[Event], None] = lambda _event: None,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
        has_listeners: Callable[[type[Event]], object] = lambda _kind: False,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._emit = emit
        self._on_failure = on_failure
        self._results = PushResults(emit, has_listeners)
        self._buffer = Buffer()
        self._sender = Sender(store, clock, settings.flush_interval_s)
        self._pid = os.getpid()
        self._nonce = clock.token(16)
        self._sequence = 0
        self._urgent = asyncio.Event()  # do not linger
        self._any = asyncio.Event()  # the buffer holds a job
        self._room = asyncio.Event()  # a frame has left the buffer
        self._idle = asyncio.Event()  # the buffer is empty and nothing is being sent
        self._idle.set()
        self._sending: list[Pending] = []
        self._away_since: float | None = None
        self._outage = False  # for longer than `confirm_timeout`
        self._last_error: str | None = None
        self._frame: Frame[OutgoingJob] | None = None  # of `_sending`, until there is an answer
        self._task: asyncio.Task[None] | None = None
        self._thread: LoopThread | None = None  # what has started it
        self._stopping = False
        self._service = StartStop[None]("the client", None)

    def __repr__(self) -> str:
        away = f", store away: {self._last_error}" if self._last_error else ""
        return f"<Client {self._buffer.jobs} buffered, {len(self._sending)} being sent{away}>"

    # -- taking jobs in

    def push_nowait(self, outgoing: OutgoingJob) -> Receipt:
        """Buffer the job and go on. Raises BufferFull; LifecycleError after `stop` or a fork."""
        size = len(outgoing.payload)
        self._check_process()
        if not self._has_room(1, size):
            raise self._full()
        self._add(Pending((outgoing,), size, self._clock.monotonic()))
        self._any.set()
        return Receipt(outgoing.jid, "buffered")

    async def push(self, outgoing: Sequence[OutgoingJob], *, atomic: bool = False) -> list[Receipt]:
        """Return when the store has confirmed the jobs, or `buffered` once it is known to be away.

        Raises: BufferFull after `push_timeout` without room; StoreRefused when the store says no;
        LifecycleError after `stop` or a fork. Cancel: the jobs stay accepted.
        """
        size, accepted_at = size_of(outgoing), self._clock.monotonic()
        self._check_process()
        self._check_loop()
        if not self._has_room(len(outgoing), size):
            await self._wait_for_room(len(outgoing), size)
        if self._outage:
            pending = Pending(outgoing, size, accepted_at, None, atomic)
            self._add(pending)
            self._any.set()
            return buffered(pending)
        waiting = Waiting(len(outgoing))
        self._add(Pending(outgoing, size, accepted_at, waiting, atomic))
        self._urgent.set()
        self._any.set()
        return await waiting.future

    def _check_process(self) -> None:
        if self._forked():
            raise LifecycleError(
                "this process was forked from one that runs the app: start an app here"
            )
        if self._stopping:
            raise LifecycleError("the app has stopped and takes no more jobs")
        if self._task is not None and self._task.done():
            raise LifecycleError(_NOT_SENDING)

    def _check_loop(self) -> None:
        if self._thread is not None and not self._thread.is_current():
            raise LifecycleError(
                "a client is used in its app's event loop: app.enqueue and app.flush may be awaited"
                " in any other"
            )

    def _forked(self) -> bool:
        """Whether this is a forked child. The parent sends what was accepted, so we drop it."""
        forked = os.getpid() != self._pid
        if forked and self._buffer.jobs:
            self._buffer = Buffer()
            self._sending = []
        return forked

    def _has_room(self, jobs: int, size: int) -> bool:
        held, limits = self._buffer, self._settings
        return (
            held.jobs + jobs <= limits.buffer_jobs and held.held_bytes + size <= limits.buffer_bytes
        )

    def _full(self) -> BufferFull:
        held = self._buffer
        return BufferFull(
            f"{held.jobs:,} jobs ({held.held_bytes:,} bytes) wait for the store"
            f"{': ' + self._last_error if self._last_error else ''}; raise buffer_limit, or "
            "enqueue more slowly"
        )

    async def _wait_for_room(self, jobs: int, size: int) -> None:
        deadline = self._clock.monotonic() + self._settings.push_timeout_s
        while not self._has_room(jobs, size):
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                raise self._full()
            self._room.clear()
            await wait(self._room, self._clock, left_s)
            self._check_process()  # it may have stopped meanwhile

    def _add(self, pending: Pending) -> None:
        for part in pending.parts(FRAME_JOBS, FRAME_BYTES):
            self._buffer.add(part)
        self._idle.clear()
        if self._outage:
            self._buffer.pack()

    # -- sending

    async def start(self) -> None:
        """Begin to flush. What an earlier stop could not send comes first, under its old numbers.

        See `Service`.
        """
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        self._stopping = self._outage = False
        self._thread = LoopThread()
        if self._buffer.jobs:
            self._any.set()
        self._task = asyncio.create_task(self._flush_forever(), name="kiqpy:client")
        self._task.add_done_callback(self._report_defect)

    def _report_defect(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
        elif self._stopping or all(other.cancelling() for other in asyncio.all_tasks()):
            return  # our own stop, or asyncio.run at its end, which cancels whatever there is
        else:
            error = LifecycleError(_NOT_SENDING)
        if error is not None:
            self._on_failure(error)
            self._give_up_waiting()

    async def _flush_forever(self) -> None:
        while True:
            await self._any.wait()
            if not self._urgent.is_set() and not self._stopping:  # linger: more come together
                await wait(self._urgent, self._clock, self._settings.flush_interval_s)
            self._any.clear()
            self._urgent.clear()
            while self._buffer.jobs:
                await self._flush_once()

    async def _flush_once(self) -> None:
        frame = self._frame = self._frame or self._compose()
        results = await self._deliver(frame)
        sent, self._sending, self._frame = self._sending, [], None
        if results is None:
            return self._buffer.put_back(sent)
        self._buffer.forget(sent)
        self._room.set()
        if not self._buffer.jobs:
            self._idle.set()
        self._results.report(sent, results)

    def _compose(self) -> Frame[OutgoingJob]:
        """The oldest jobs of the buffer, under the next number."""
        self._sending = self._buffer.take(self._sender.max_jobs)
        now, atomic = self._clock.monotonic(), self._sending[0].atomic
        outgoing = [
            each if each.in_s is None else _aged(each, now - pending.accepted_at)
            for pending in self._sending
            for each in pending.outgoing
        ]
        self._sequence += 1
        return Frame(self._nonce, self._sequence, outgoing, now, atomic)

    async def _deliver(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        """Send one frame until there is an answer; None: it is withdrawn."""
        timer = self._clock.call_later(self._settings.confirm_timeout_s, self._give_up_waiting)
        try:
            while True:
                try:
                    results = await self._sender.send(frame)
                except StoreUnavailable as error:
                    self._note_failure(error)
                    await self._sender.pause()
                else:
                    self._note_success()
                    return results
        finally:
            timer.cancel()

    def _note_failure(self, error: StoreUnavailable) -> None:
        self._last_error = str(error)
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            self._emit(FlushFailed(str(error), self._buffer.jobs))

    def _note_success(self) -> None:
        if self._away_since is not None:
            self._emit(FlushRestored(self._clock.monotonic() - self._away_since))
        self._away_since = self._last_error = None
        self._outage = False

    def _give_up_waiting(self) -> None:
        """The store was silent for `confirm_timeout`: all pushes that wait return `buffered`."""
        self._outage = True
        for pending in (*self._sending, *self._buffer.waiting()):
            pending.answer(buffered(pending))

    async def flush(self) -> None:
        """Return when everything accepted so far is durable. Cancel: safe, flushing goes on."""
        self._check_loop()
        self._urgent.set()
        self._any.set()
        await self._idle.wait()

    async def stop(self, within_s: float = 5.0) -> int:
        """Flush, for at most `within_s`, then stop; how many jobs could not be made durable.

        Pushes that still wait return `buffered`. Those jobs are kept for the next start. See
        `Service`.
        """
        self._stopping = True
        await self._service.stop(lambda: self._end(within_s))
        return self._buffer.jobs

    async def _end(self, within_s: float = 0.0) -> None:
        self._urgent.set()
        self._any.set()
        flushed = asyncio.ensure_future(self._idle.wait())
        await ended({flushed}, within_s, self._clock)
        flushing, self._task = self._task, None
        assert flushing is not None
        for task in (flushed, flushing):
            task.cancel()
        await asyncio.wait({flushed, flushing})
        self._give_up_waiting()

    def snapshot(self) -> ClientSnapshot:
        """How far behind the client is, now."""
        self._forked()
        held = self._buffer
        since = self._sending[0].accepted_at if self._sending else held.oldest()
        oldest_s = 0.0 if since is None else self._clock.monotonic() - since
        return ClientSnapshot(
            buffered=held.jobs,
            raw_bytes=held.raw_bytes,
            held_bytes=held.held_bytes,
            oldest_s=oldest_s,
            last_error=self._last_error,
        )


def _aged(outgoing: OutgoingJob, held_s: float) -> OutgoingJob:
    """A delay counts from the call, however long the job was held here."""
    assert outgoing.in_s is not None
    return outgoing._replace(in_s=outgoing.in_s - held_s)

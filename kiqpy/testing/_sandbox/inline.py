"""Running a job in the task that enqueues it, through the app's own stages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, cast, final

from kiqpy._flow.tasks import whole
from kiqpy._runtime.engine import Engine
from kiqpy._stages.consumer import CANCEL_S
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy.event import JobFailure, JobStopped
from kiqpy.receipt import Receipt
from kiqpy.store import Heartbeat, OutgoingJob, Store
from kiqpy.store._backend import Backend
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer

_DEEPEST: Final = 50
_depth: ContextVar[int] = ContextVar("kiqpy_inline_depth", default=0)


@final
class InlineRunner:
    """Each job gets stages and a process's half of the store of its own.

    So it sees the context variables of whoever enqueued it, and may itself enqueue: no job waits
    for a slot that another holds.
    """

    def __init__(self, engine: Engine, server: MemoryServer) -> None:
        self._engine, self._server = engine, server
        self._perform = engine.performer()
        self._errors: dict[str, BaseException] = {}
        self._endings: dict[str, asyncio.Event] = {}
        engine.bus.attach("job.failure", self._failed)
        engine.bus.attach("job.stopped", self._stopped)

    def close(self) -> None:
        """Hear nothing more."""
        self._engine.bus.detach(self._failed)
        self._engine.bus.detach(self._stopped)

    def _failed(self, event: JobFailure) -> None:
        if event.job.jid in self._endings:
            self._errors[event.job.jid] = event.error

    def _stopped(self, event: JobStopped) -> None:
        if event.job.jid in self._endings:
            self._endings[event.job.jid].set()

    async def __call__(
        self, item: OutgoingJob, push: Callable[[OutgoingJob], Awaitable[Receipt]]
    ) -> Receipt:
        """Push the job, run it, raise what it raises. Cancel: the job is interrupted."""
        if _depth.get() >= _DEEPEST:
            raise RecursionError(f"inline, jobs are {_DEEPEST} deep: does one enqueue itself?")
        token = _depth.set(_depth.get() + 1)
        # Before the push: the stages of another job in this queue may be faster than ours.
        ending = self._endings[item.jid] = asyncio.Event()
        try:
            receipt = await push(item)
            if receipt.state == "queued":
                await self._run(item, ending)
            if (error := self._errors.pop(item.jid, None)) is not None:
                raise error
            return receipt
        finally:
            self._endings.pop(item.jid, None)
            _depth.reset(token)

    async def _run(self, item: OutgoingJob, ending: asyncio.Event) -> None:
        store = self._process(item)
        pipeline = self._engine.pipeline(item.queue, 1, store, self._perform)
        running = asyncio.ensure_future(pipeline.run())
        stopped = asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over = ending.is_set()
            stopped.cancel()
            await whole(_conclude(pipeline, running, store, over))

    def _process(self, item: OutgoingJob) -> Store:
        ident = f"inline:{item.jid}:{self._engine.clock.token(4)}"
        backend = cast("Backend", MemoryBackend(self._server, ident))  # see `memory_backend`
        store = Session(backend, self._engine.clock)
        store.beat(Heartbeat("{}", 1, False, 0, {}, 0, (item.queue,), lease_s=1e9))
        return store


async def _conclude(
    pipeline: QueuePipeline, running: asyncio.Future[None], store: Store, over: bool
) -> None:
    await pipeline.drain()
    if not over:
        await pipeline.release(CANCEL_S)
    await running
    await store.leave()

"""Tracing as an extension: a span around each enqueue and around each attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final

from kiqpy._declare.checks import Duration, Instant
from kiqpy._extensions.extension import Extension, Host
from kiqpy._flow.loop import Loop
from kiqpy._flow.thread import LoopThread
from kiqpy._intake.protocol import JobEnqueuer
from kiqpy.job import Job
from kiqpy.middleware import ServerMiddleware
from kiqpy.observe.tracing import Tracing, say_batch
from kiqpy.receipt import Receipt

_LOOK_S: Final = 5.0  # an application that sets its tracer provider late waits so long for spans


@final
class TracingJobs(Extension):
    """Makes spans once the application has set a tracer provider; costs nothing until then."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._tracing = Tracing(host.config.propagation)
        self._tracing.look()

    def around_enqueuer(self, enqueuer: JobEnqueuer) -> JobEnqueuer:
        return TracedEnqueuer(enqueuer, self._tracing) if self._tracing.is_on else enqueuer

    def server_middleware(self) -> Sequence[ServerMiddleware]:
        return (self._tracing.process,) if self._tracing.is_on else ()

    def loops(self) -> Sequence[Loop]:
        return () if self._tracing.is_on else (ProviderWatch(self._tracing, self.host.recompose),)


@final
class ProviderWatch(Loop):
    """Looks for a tracer provider that the application sets after the start."""

    name = "tracing"
    on_clients = True

    def __init__(self, tracing: Tracing, on_found: Callable[[], None]) -> None:
        self._tracing = tracing
        self._on_found = on_found
        self._found = False

    async def tick(self) -> float:
        if self._tracing.look() is not self._found:
            self._found = not self._found
            self._on_found()
        return _LOOK_S


@final
class TracedEnqueuer:
    """An enqueuer with a span around each call."""

    def __init__(self, inner: JobEnqueuer, tracing: Tracing) -> None:
        self._inner = inner
        self._tracing = tracing

    @property
    def thread(self) -> LoopThread:
        return self._inner.thread

    async def one(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        if not _is_job(job):
            return await self._inner.one(job, in_, at)
        with self._tracing.send(job.queue) as span:
            receipt = await self._inner.one(job.with_fields(self._tracing.carrier()), in_, at)
            span.set_attribute("messaging.message.id", receipt.jid)
            return receipt

    def nowait(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        if not _is_job(job):
            return self._inner.nowait(job, in_, at)
        with self._tracing.send(job.queue) as span:
            receipt = self._inner.nowait(job.with_fields(self._tracing.carrier()), in_, at)
            span.set_attribute("messaging.message.id", receipt.jid)
            return receipt

    async def many(
        self, jobs: Iterable[Job], *, atomic: bool, progress: Callable[[int], object] | None
    ) -> list[Receipt]:
        with self._tracing.send(None) as span:
            queues: set[str] = set()
            stamped = self._stamped(jobs, queues)
            receipts = await self._inner.many(stamped, atomic=atomic, progress=progress)
            say_batch(span, queues, len(receipts))
            return receipts

    def _stamped(self, jobs: Iterable[Job], queues: set[str]) -> Iterator[Job]:
        carrier = self._tracing.carrier()
        for job in jobs:
            if _is_job(job):
                queues.add(job.queue)
                yield job.with_fields(carrier)
            else:
                yield job  # the admission says what is wrong with it


def _is_job(job: object) -> bool:
    return isinstance(job, Job)

"""What a user subclasses: the declaration of an app, and the doors through which jobs come in."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from kiqpy._declare.checks import Duration, Instant, duration, instant
from kiqpy._intake.protocol import JobClient
from kiqpy._reporting.stream import EventStream
from kiqpy._runtime.web import Embedding
from kiqpy.errors import ArgumentError, LifecycleError
from kiqpy.job import Job
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from kiqpy._runtime.environment import Environment
    from kiqpy.testing import AppTester

T = TypeVar("T")
_ATOMIC_JOBS, _ATOMIC_BYTES = 1000, 8 * 2**20


class App(Embedding):
    """Declares queues, workers and reporters, and runs them: `async with Jobs() as jobs`.

    Options are class attributes, overridden by constructor arguments, overridden by what `init`
    returns. Several apps in one process share nothing. No signal handlers are installed.
    """

    _portal: tuple[BlockingPortal, AbstractContextManager[BlockingPortal]] | None = None

    async def enqueue(
        self, job: Job, *, in_: Duration | None = None, at: Instant | None = None
    ) -> Receipt:
        """Enqueue now, in `in_` seconds, or at an instant; return when Redis has confirmed it.

        State `queued` or `scheduled`: durable, exactly once. `buffered`: Redis is away, the job
        is kept and retried. `duplicate`: a unique job like it exists. Raises ArgumentError,
        BufferFull, StoreRefused. `halted`: a client middleware did not let it go on; what one
        raises is raised here. Cancel: the job stays enqueued.
        """
        client = self.client
        parcel = await self._admit(client, job, in_, at)
        return parcel if isinstance(parcel, Receipt) else (await client.push((parcel,)))[0]

    def enqueue_nowait(
        self, job: Job, *, in_: Duration | None = None, at: Instant | None = None
    ) -> Receipt:
        """Buffer the job and go on; it is durable after the next flush. From any thread."""
        client = self.client
        parcel = self._admit_nowait(client, job, in_, at)
        if isinstance(parcel, Receipt):
            return parcel
        if threading.get_ident() == self._thread:
            return client.push_nowait(parcel)
        return self._from_thread(_call(client.push_nowait, parcel), None)

    async def enqueue_many(
        self,
        jobs: Iterable[Job],
        *,
        atomic: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> list[Receipt]:
        """Enqueue all or none (up to 1,000 jobs and 8 MiB), one receipt each, in order.

        With `atomic=False` any iterable, in slices of 1,000; `progress(n)` is called after each.
        """
        client = self.client
        if atomic:
            parcels = await self._admit_all(client, jobs)
            return await _push(client, parcels, atomic=True)
        receipts: list[Receipt] = []
        source = iter(jobs)
        while part := await self._admit_all(client, islice(source, 1000)):
            receipts += await _push(client, part, atomic=False)
            if progress is not None:
                progress(len(receipts))
        return receipts

    def enqueue_sync(
        self,
        job: Job,
        *,
        in_: Duration | None = None,
        at: Instant | None = None,
        timeout: float | None = 30.0,
    ) -> Receipt:
        """`enqueue` from a thread or a script; a script's app starts as a client by itself.

        Raises TimeoutError after `timeout` seconds; the job may be enqueued all the same.
        """
        if self._engine is None:
            self._start_portal()
        elif threading.get_ident() == self._thread:
            raise LifecycleError("enqueue_sync would block the event loop: await enqueue(...)")
        return self._from_thread(self.enqueue(job, in_=in_, at=at), timeout)

    def close_sync(self) -> None:
        """Flush and stop what `enqueue_sync` has started in a script. Idempotent."""
        held, self._portal = self._portal, None
        atexit.unregister(self.close_sync)
        if held is not None:
            portal, context = held
            portal.call(self.stop)
            context.__exit__(None, None, None)

    def _start_portal(self) -> None:
        from anyio.from_thread import start_blocking_portal  # dear: only scripts need it

        context = start_blocking_portal()
        portal = context.__enter__()
        self._portal = portal, context
        atexit.register(self.close_sync)  # a script that forgets it loses nothing and ends
        try:
            portal.call(self._start, False)
        except BaseException:
            self._portal = None
            context.__exit__(None, None, None)
            raise

    def _from_thread(self, run: Coroutine[Any, Any, T], timeout: float | None) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(run, self._loop).result(timeout)

    async def _admit(
        self, client: JobClient, job: Job, in_: Duration | None = None, at: Instant | None = None
    ) -> OutgoingJob | Receipt:
        """What is to be pushed; or the receipt, if a middleware did not let the job go on."""
        chain = client.middleware
        if chain is None:
            return client.accept(job, *_due(job, in_, at))
        draft = client.draft(job, *_due(job, in_, at))
        return _admitted(client, draft, await chain(draft))

    async def _admit_all(
        self, client: JobClient, jobs: Iterable[Job]
    ) -> list[OutgoingJob | Receipt]:
        if client.middleware is None:  # without a coroutine for each
            return [client.accept(job, *_due(job)) for job in jobs]
        return [await self._admit(client, job) for job in jobs]

    def _admit_nowait(
        self, client: JobClient, job: Job, in_: Duration | None, at: Instant | None
    ) -> OutgoingJob | Receipt:
        chain = client.middleware
        if chain is None:
            return client.accept(job, *_due(job, in_, at))
        draft = client.draft(job, *_due(job, in_, at))
        return _admitted(client, draft, chain.run_sync(draft))

    @asynccontextmanager
    async def testing(self, *, now: datetime | float | None = None) -> AsyncGenerator[AppTester]:
        """The app on a store in memory, in virtual time that begins at `now`: needs no Redis.

        Enqueued jobs stay where they are until `await t.drain()`, and no time passes until
        `await t.tick(seconds)`; all that happens then is what production does. Reporters and
        middleware are the app's own. See docs/testing.md.
        """
        from kiqpy.testing._sandbox.tester import AppTester  # only tests pay for it

        tester = AppTester(self, self._bus, now)
        async with self._running_in(tester, tester.clock, lambda: tester.conclude(self.stop(0.0))):
            yield tester

    def _choose_environment(self, mode: str | None) -> Environment:
        if mode is not None:
            import kiqpy.testing._sandbox.environment  # noqa: F401  # registers the test modes
        return super()._choose_environment(mode)

    def events(self, *patterns: str, queue: str | None = None, limit: int = 1000) -> EventStream:
        """Events as they come: `async with jobs.events("job.*") as stream: async for event in ...`.

        Those whose name matches one of the patterns (none given: all), of one queue if it is named.
        At most `limit` wait; then the oldest are dropped, `stream.dropped` says how many. It ends
        when the app has stopped. ConfigError for a pattern that no event matches.
        """
        return EventStream(self._bus, patterns, queue, limit)

    async def flush(self) -> None:
        """Return when every job accepted so far is in Redis."""
        await self.client.flush()


def _due(
    job: Job, in_: Duration | None = None, at: Instant | None = None
) -> tuple[float | None, float | None]:
    """Seconds from now, or epoch seconds, as the call says; neither: as the job says."""
    if not isinstance(job, Job):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"enqueue takes a job, not {job!r}: make one with worker.new(...)")
    if in_ is None and at is None:
        return None, None
    if in_ is not None and at is not None:
        raise ArgumentError("give in_ or at, not both")
    in_s = None if in_ is None else duration("in_", in_)
    at_s = None if at is None else instant("at", at)
    return in_s, at_s


def _admitted(client: JobClient, draft: Job, job: Job | None) -> OutgoingJob | Receipt:
    if job is None:
        return Receipt(draft.jid, "halted")
    return client.accept(job)


async def _push(
    client: JobClient, admitted: Sequence[OutgoingJob | Receipt], *, atomic: bool
) -> list[Receipt]:
    """Push what is to be pushed as one batch; one receipt each, in order."""
    parcels = [each for each in admitted if isinstance(each, OutgoingJob)]
    if atomic:
        _check_atomic(parcels)
    pushed = iter(await client.push(parcels, atomic=atomic) if parcels else ())
    return [each if isinstance(each, Receipt) else next(pushed) for each in admitted]


async def _call(function: Callable[..., T], *args: Any) -> T:
    return function(*args)


def _check_atomic(parcels: Sequence[OutgoingJob]) -> None:
    size = sum(len(parcel.payload) for parcel in parcels)
    if len(parcels) > _ATOMIC_JOBS or size > _ATOMIC_BYTES:
        raise ArgumentError(
            f"{len(parcels):,} jobs of {size:,} bytes are too many for one step (1,000 jobs, "
            "8 MiB): use atomic=False, or smaller groups"
        )

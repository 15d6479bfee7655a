"""What a user subclasses: the declaration of an app, and the doors through which jobs come in."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from kiqpy._declare.checks import Duration, Instant
from kiqpy._reporting.stream import EventStream
from kiqpy._runtime.periodics import Periodics
from kiqpy._runtime.web import Embedding
from kiqpy.errors import ConfigError, LifecycleError
from kiqpy.job import Job
from kiqpy.receipt import Receipt

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from kiqpy._runtime.environment import Environment
    from kiqpy.testing import AppTester
    from kiqpy.web import ASGIApp, Authorize, Redact

T = TypeVar("T")


class App(Embedding):
    """Declares queues, workers and reporters, and runs them: `async with Jobs() as jobs`.

    Options are class attributes, overridden by constructor arguments, overridden by what `init`
    returns; those that hold are in `app.config`. Durations are seconds or timedeltas. Several apps
    in one process share nothing. No signal handlers are installed.

    What it runs: `queues`, `groups`, `concurrency`, `max_running`, `workers`, `periodics`,
    `server`, `threads`, `processes`.
    The connection: `redis_url`, `redis_options`, `namespace`, `pool_size`, `embedded`,
    `embedded_dir`, `identity`.
    Enqueueing: `client_middleware`, `flush_interval`, `confirm_timeout`, `push_timeout`,
    `buffer_limit`, `buffer_bytes`, `on_unflushed`, `max_payload`.
    Running: `middleware`, `timeout`, `shutdown_timeout`, `leaked_tasks`.
    Failing: `retry`, `backoff`, `death_handlers`, `dead_limit`, `dead_timeout`.
    Time: `schedulers`, `poll_interval`, `fetch_interval`, `heartbeat_interval`, `lease_ttl`,
    `suspicion`, `stuck_after`, `elect_ttl`.
    Hearing of it: `reporters`, `start_log_level`, `done_log_level`, `fail_log_level`, `slow_after`.
    Tests: `test_mode`.
    """

    _portal: tuple[BlockingPortal, AbstractContextManager[BlockingPortal]] | None = None

    @property
    def cron(self) -> Periodics:
        """The periodic jobs at run time: `await app.cron()` lists them, and they have switches."""
        return Periodics(self)

    async def enqueue(
        self, job: Job[T], *, in_: Duration | None = None, at: Instant | None = None
    ) -> Receipt[T]:
        """Enqueue now, in `in_` seconds, or at an instant; return when Redis has confirmed it.

        `at`: an aware datetime or epoch seconds; one in the past means now. The receipt's state:
        `queued` or `scheduled`: durable, exactly once. `buffered`: Redis is away, the job is kept
        here and sent later. `duplicate`: a unique job like it exists. `halted`: a client
        middleware let no job go on.

        Raises ArgumentError, ConfigError for a time or a queue's name that is none, BufferFull
        after `push_timeout` without room, StoreRefused, LifecycleError, and what a client
        middleware raises. Cancel: the job stays enqueued.
        """
        return await self._running().enqueuer.one(job, in_, at)

    def enqueue_nowait(
        self, job: Job[T], *, in_: Duration | None = None, at: Instant | None = None
    ) -> Receipt[T]:
        """Buffer the job and return; the state is `buffered`, or `halted`.

        It is durable after the next flush, within `flush_interval` while Redis answers; `await
        flush()` waits for that. If Redis refuses the job, event `job.refused` says so; a duplicate
        of a unique job is dropped silently. From any thread; in another one than the app's, it
        returns when the app's event loop has taken the job.

        Raises as `enqueue`, but BufferFull at once; LifecycleError if a client middleware awaits
        anything that is not ready.
        """
        return self._running().enqueuer.nowait(job, in_, at)

    async def enqueue_many(
        self,
        jobs: Iterable[Job[T]],
        *,
        atomic: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> list[Receipt[T]]:
        """Enqueue all or none, up to 1,000 jobs and 8 MiB; one receipt each, in order.

        With `atomic=False` any number, in slices of 1,000; `progress(n)` is called after each
        slice with the number of jobs so far. If a slice raises, those before it stay enqueued. A
        duplicate of a unique job is no error in either case: its receipt says so.

        Raises as `enqueue`; ArgumentError if they are too many for `atomic=True`. Cancel: the
        jobs of the present slice stay enqueued, no further one begins.
        """
        return await self._running().enqueuer.many(jobs, atomic=atomic, progress=progress)

    def enqueue_sync(
        self,
        job: Job[T],
        *,
        in_: Duration | None = None,
        at: Instant | None = None,
        timeout: float | None = 30.0,
    ) -> Receipt[T]:
        """`enqueue` from a thread or a script; a script's app starts as a client by itself.

        Raises as `enqueue`; LifecycleError in the thread of the app's event loop; TimeoutError
        after `timeout` seconds (None: never), and the job may be enqueued all the same.
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

    @asynccontextmanager
    async def testing(self, *, now: datetime | float | None = None) -> AsyncGenerator[AppTester]:
        """The app on a store in memory, in virtual time that begins at `now`: needs no Redis.

        Enqueued jobs stay where they are until `await t.drain()`, and no time passes until
        `await t.tick(seconds)`; all that happens then is what production does. Reporters and
        middleware are the app's own.
        """
        from kiqpy.testing._sandbox.tester import AppTester  # only tests pay for it

        tester = AppTester(self, self._bus, now)
        async with self._running_in(tester, tester.clock, lambda: tester.conclude(self.stop(0.0))):
            yield tester

    def _choose_environment(self, mode: str | None) -> Environment:
        if mode is not None:
            from kiqpy.testing._sandbox.environment import register_modes

            register_modes()
        return super()._choose_environment(mode)

    def events(self, *patterns: str, queue: str | None = None, limit: int = 1000) -> EventStream:
        """Events as they come: `async with jobs.events("job.*") as stream: async for event in ...`.

        Those whose name matches one of the patterns (none given: all), of one queue if it is named.
        At most `limit` wait; then the oldest are dropped, `stream.dropped` says how many. It ends
        when the app has stopped. ConfigError for a pattern that no event matches.
        """
        return EventStream(self._bus, patterns, queue, limit)

    def dashboard(
        self,
        *,
        auth: Authorize | None = None,
        read_only: bool = False,
        title: str = "kiqpy",
        redact: Redact | None = None,
        trace_url: str | None = None,
    ) -> ASGIApp:
        """The dashboard as an ASGI app: `service.mount("/jobs", jobs.dashboard(auth=...))`.

        Needs the extra `web`. See `kiqpy.web.dashboard` for who is let in and what may be set.
        Raises ConfigError without that extra, or if KIQPY_WEB_AUTH makes no sense.
        """
        try:
            from kiqpy.web import dashboard  # only who has a dashboard has its packages
        except ImportError as error:
            raise ConfigError(f"{error}; pip install 'kiqpy[web]'") from error
        return dashboard(
            self,
            auth=auth,
            read_only=read_only,
            title=title,
            redact=redact,
            trace_url=trace_url,
        )

    async def flush(self) -> None:
        """Return when every job accepted so far is in Redis."""
        await self.client.flush()

"""What a user subclasses: an app declares options and workers, and is started and stopped.

Everything here delegates: to the declaration, the lifecycle, the ways in and the portal for code
without an event loop. Events, run-time control and web integration are faces of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from kiqpy._declare.checks import Duration, Instant
from kiqpy._flow.thread import from_any_loop
from kiqpy._intake.protocol import JobClient
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._runtime.assembly import AppHooks, Assembly
from kiqpy._runtime.control import ControlFace
from kiqpy._runtime.declared import DeclaredOptions, class_options
from kiqpy._runtime.environment import Environment, choose_environment
from kiqpy._runtime.events import EventsFace
from kiqpy._runtime.lifecycle import Lifecycle
from kiqpy._runtime.periodics import Periodics
from kiqpy._runtime.sync import SyncPortal
from kiqpy._runtime.web import WebFace
from kiqpy.clock import Clock, SystemClock
from kiqpy.config import Config
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.options import Declaration
from kiqpy.receipt import Receipt
from kiqpy.store import Store

if TYPE_CHECKING:
    from typing import Unpack

    from kiqpy._extensions.extension import MakeExtension
    from kiqpy.options import AppOptions
    from kiqpy.testing import AppTester
    from kiqpy.web import ASGIApp, Authorize, Redact


T = TypeVar("T")


@from_any_loop(but=("start", "stop", "enqueue"))
class App(Declaration, EventsFace, ControlFace, WebFace):
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
    Failing: `retry`, `backoff`, `backtrace`, `death_handlers`, `dead_limit`, `dead_timeout`.
    Time: `schedulers`, `poll_interval`, `fetch_interval`, `heartbeat_interval`, `lease_ttl`,
    `suspicion`, `stuck_after`, `unready_after`, `elect_ttl`.
    Hearing of it: `reporters`, `start_log_level`, `done_log_level`, `fail_log_level`, `slow_after`,
    `metrics`, `tracing`, `propagation`. Tests: `test_mode`.

    Unless they say otherwise, methods raise LifecycleError when the app is not started, and
    StoreUnavailable when Redis does not answer.
    """

    _extensions: ClassVar[Sequence[MakeExtension]] = ()  # besides those that every app has

    def __init__(self, *, clock: Clock | None = None, **options: Unpack[AppOptions]) -> None:
        """`options` count more than the class's. ConfigError names the one that is wrong."""
        self.name = f"{type(self).__module__}.{type(self).__qualname__}"
        given = {**class_options(type(self)), **options}
        self._declaration = DeclaredOptions(self.name, given)
        self._bus = Bus()
        self._assembly = Assembly(
            declaration=self._declaration,
            hooks=AppHooks(self, self.init, self._choose_environment, self._extensions),
            bus=self._bus,
            clock=clock or SystemClock(),
        )
        self._lifecycle = Lifecycle(self.name, self._assembly)
        self._sync = SyncPortal(self._lifecycle)
        for spec in self.registry.specs():
            spec.apps.add(self)

    # -- what is declared

    @property
    def config(self) -> Config:
        """All options: as declared, and from a start on with what `init` and `override` changed."""
        return self._declaration.config

    @property
    def registry(self) -> Registry:
        """The declared workers, by their names on the wire."""
        return self._declaration.registry

    def init(self, config: Config, /) -> Config | bool | Awaitable[Config | bool | None] | None:
        """Override it to read values when the app starts; return what is to hold, or False.

        Called at each start; may be async. `config.replace(...)`: these options. None or True:
        `config` as it is. False: do not start; `start` raises LifecycleError.
        """
        return None

    def override(self, **options: Unpack[AppOptions]) -> None:
        """Options that count more than all others, `init` included; from the next start on.

        For code that runs an app which somebody else has declared, such as `kiqpy run`. Raises
        ConfigError for an option that is unknown or wrong.
        """
        self._declaration.override(options)

    def _choose_environment(self, mode: str | None, clock: Clock) -> Environment:
        if mode is not None:
            from kiqpy.testing._sandbox.environment import register_modes  # only tests pay for it

            register_modes()
        return choose_environment(self, mode, clock)

    # -- start and stop

    async def start(self) -> None:
        """Return when jobs are taken in and run; raises, with everything stopped, when not.

        ConfigError, StoreUnavailable and StoreRefused say what to do. LifecycleError: it is
        started already, or still stopping. Cancel: what was started is stopped first.
        """
        await self._lifecycle.start()

    async def stop(self, grace: Duration | None = None) -> None:
        """Stop in order: claim nothing more, let jobs end, give the rest back, flush, leave.

        `grace`: seconds (or a timedelta) that running jobs get; default: `shutdown_timeout`. They
        may enqueue others meanwhile. Jobs that outlast it are cancelled and go back to the heads
        of their queues. Idempotent; called again while it stops, it waits for the same end, and
        its `grace` counts from now if that is sooner.

        Raises StoreUnavailable if `on_unflushed="raise"` and buffered jobs could not be made
        durable; LifecycleError while the app is starting. Cancel: ends the grace; what must
        follow, a few seconds, is done before CancelledError is raised.
        """
        await self._lifecycle.stop(grace)

    async def wait_stopped(self) -> None:
        """Return when an operator told the app to stop (TERM via Redis), or it has stopped.

        If nobody waits for it when an operator says so, the app goes quiet, with a warning.
        Raises what broke the app, if a part of kiqpy itself broke for good. The app still runs
        then: call `stop`. Cancel: safe.
        """
        await self._lifecycle.wait_stopped()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()
        self._lifecycle.raise_failure()

    @asynccontextmanager
    async def client_only(self) -> AsyncGenerator[Self]:
        """For a process that enqueues and runs nothing: no lease, no loops, no workers.

        Raises as `start` and `stop`.
        """
        await self._lifecycle.start(server=False)
        try:
            yield self
        finally:
            await self.stop()

    @asynccontextmanager
    async def testing(self, *, now: datetime | float | None = None) -> AsyncGenerator[AppTester]:
        """The app on a store in memory, in virtual time that begins at `now`: needs no Redis.

        Enqueued jobs stay where they are until `await t.drain()`, and no time passes until
        `await t.tick(seconds)`; all that happens then is what production does. Reporters and
        middleware are the app's own.
        """
        from kiqpy.testing._sandbox.tester import AppTester  # only tests pay for it

        self._lifecycle.check_start()
        tester = AppTester(self, self._bus, now)
        with self._assembly.placed(tester, tester.clock):
            await self._lifecycle.start(server=True)
            try:
                yield tester
            finally:
                await tester.conclude(self.stop(0.0))
        self._lifecycle.raise_failure()

    @property
    def started(self) -> bool:
        """Whether jobs are taken in: from the end of `start` to the beginning of `stop`."""
        return self._lifecycle.engine is not None

    @property
    def failure(self) -> BaseException | None:
        """What broke the app for good since its last start, or None. For a health check."""
        return self._lifecycle.failure

    @property
    def client(self) -> JobClient:
        """The buffered client; `client.snapshot()` says how far behind it is."""
        return self._lifecycle.running().client

    @property
    def store(self) -> Store:
        """The store, for looking at what there is."""
        return self._lifecycle.running().store

    @property
    def cron(self) -> Periodics:
        """The periodic jobs at run time: `await app.cron()` lists them, and they have switches."""
        return Periodics(self, self._look_at_periodics, self._lifecycle.home)

    def _look_at_periodics(self) -> None:
        self._lifecycle.running().loops.look_at_periodics()

    # -- enqueueing

    async def enqueue(
        self,
        job: Job[T],
        *,
        in_: Duration | None = None,
        at: Instant | None = None,
        lane: str | None = None,
    ) -> Receipt[T]:
        """Enqueue now, in `in_` seconds, or at an instant; return when Redis has confirmed it.

        `at`: an aware datetime or epoch seconds; one in the past means now. `lane`: of a
        `BlockingQueues`, the lane in which it runs after those before it. The receipt's state:
        `queued` or `scheduled`: durable, exactly once. `buffered`: Redis is away, the job is kept
        here and sent later. `duplicate`: a unique job like it exists. `halted`: a client
        middleware let no job go on.

        Raises ArgumentError, ConfigError for a time, queue or lane that is none, BufferFull
        after `push_timeout` without room, StoreRefused, LifecycleError, and what a client
        middleware raises. Cancel: the job stays enqueued.
        """
        if lane is not None:
            job = job.in_lane(lane)
        enqueuer = self._lifecycle.running().enqueuer
        run, home = enqueuer.one(job, in_, at), enqueuer.thread
        # Not by `from_any_loop`, which would make one more coroutine for each job.
        return await (run if home.is_current() else home.hand_over(run))

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
        return self._lifecycle.running().enqueuer.nowait(job, in_, at)

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
        return await self._lifecycle.running().enqueuer.many(jobs, atomic=atomic, progress=progress)

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
        return self._sync.run(lambda: self.enqueue(job, in_=in_, at=at), timeout)

    def close_sync(self) -> None:
        """Flush and stop what `enqueue_sync` has started in a script. Idempotent.

        Called at the interpreter's exit, if it was not before. Raises as `stop`.
        """
        self._sync.close()

    async def flush(self) -> None:
        """Return when every job accepted so far is in Redis. Cancel: safe, flushing goes on."""
        await self.client.flush()

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
            self, auth=auth, read_only=read_only, title=title, redact=redact, trace_url=trace_url
        )

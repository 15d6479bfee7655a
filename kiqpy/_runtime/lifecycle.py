"""An app's beginning and end: options gathered, the engine built, started and stopped."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from kiqpy._declare.checks import Duration, duration
from kiqpy._declare.env import holds_env
from kiqpy._extensions.extension import MakeExtension
from kiqpy._flow.tasks import whole
from kiqpy._intake.protocol import JobClient
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus, Handler
from kiqpy._runtime.dump import dump
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.environment import (
    Environment,
    choose_environment,
    redis_store,
    test_mode,
)
from kiqpy._runtime.periodics import check_known
from kiqpy.clock import Clock, SystemClock
from kiqpy.config import NAMES, Config, configure, refuse, resembles
from kiqpy.errors import ConfigError, LifecycleError, StoreUnavailable
from kiqpy.middleware import check_middleware
from kiqpy.options import Declaration
from kiqpy.store import Store

if TYPE_CHECKING:
    from typing import Unpack

    from kiqpy.options import AppOptions

_log = logging.getLogger("kiqpy")


class Lifecycle(Declaration):
    """What an app is, and how it starts and stops. See `App`."""

    _extensions: ClassVar[Sequence[MakeExtension]] = ()  # besides those that every app has

    def __init__(self, *, clock: Clock | None = None, **options: Unpack[AppOptions]) -> None:
        """`options` count more than the class's. ConfigError names the one that is wrong."""
        self.name = f"{type(self).__module__}.{type(self).__qualname__}"
        self._given: dict[str, Any] = {**_declared(type(self)), **options}
        self._overrides: dict[str, Any] = {}
        self.config: Config = configure(_known(self._given))
        self.registry = Registry(self.config.workers)
        check_middleware("middleware", self.config.middleware)
        check_middleware("client_middleware", self.config.client_middleware)
        for spec in self.registry.specs():
            spec.apps.add(self)
        check_known(self.config.periodics, self.config.all_queues(), self.registry)
        if self.config.server and not self.config.queues and not self.config.groups:
            raise ConfigError(f'{self.name} has no queues: set queues = {{"default": 25}}')
        self._clock: Clock = clock or SystemClock()
        self._bus = Bus()
        self._engine: Engine | None = None
        self._stopping: Engine | None = None
        self._environment: Environment | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._starting = False
        self._failure: BaseException | None = None
        self._ended: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def init(self, config: Config, /) -> Config | bool | Awaitable[Config | bool | None] | None:
        """Override it to read values when the app starts; return what is to hold, or False.

        May be async. `config.replace(...)`: these options. None or True: `config` as it is.
        False: do not start; `start` raises LifecycleError.
        """
        return None

    def override(self, **options: Unpack[AppOptions]) -> None:
        """Options that count more than all others, `init` included; from the next start on.

        For whoever runs an app that somebody else has declared, such as `kiqpy run`.
        """
        self.config = self.config.replace(**options)
        self._overrides |= options

    # -- lifecycle

    async def start(self) -> None:
        """Return when jobs are taken and claimed; raises, with everything stopped, when not.

        ConfigError, StoreUnavailable and StoreRefused say what to do. LifecycleError: started.
        """
        await self._start(server=None)

    def _refuse_second_start(self) -> None:
        if self._stopping is not None:
            raise LifecycleError(f"{self.name} is still stopping: await its stop() first")
        if self._engine is not None or self._starting:
            raise LifecycleError(f"{self.name} is started already; stop it first, or make another")

    async def _start(self, server: bool | None) -> None:
        self._refuse_second_start()
        self._starting, self._failure = True, None
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._ended = asyncio.Event()
        try:
            config = await self._configured()
            if server is not None:
                config = config.replace(server=server)
            engine = await self._build(config)
            await engine.start()
            self._engine = engine
        except BaseException:
            await self._clear_away()
            raise
        finally:
            self._starting = False

    async def _configured(self) -> Config:
        given = dict(self._given)
        if self._environment or test_mode(self) or given.get("test_mode"):
            given.pop("redis_url", None)  # it may be env(...) of a variable that no test has
        self.config = configure(given).replace(**self._overrides)
        answer = self.init(self.config)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is False:
            raise LifecycleError(f"{self.name}.init returned False: it does not want to start")
        if isinstance(answer, Config):
            self.config = answer.replace(**self._overrides)
        elif answer is not None and answer is not True:
            raise ConfigError(f"{self.name}.init returned {answer!r}: give config.replace(...)")
        return self.config

    async def _build(self, config: Config) -> Engine:
        reporters = [r() if isinstance(r, type) else r for r in config.reporters]

        def make(config: Config, parts: EngineParts) -> Engine:
            return Engine(
                config=config,
                registry=self.registry,
                reporters=reporters,
                parts=parts,
                bus=self._bus,
                clock=self._clock,
                on_failure=self._on_failure,
                on_signal=self._on_signal,
                extensions=self._extensions,
            )

        if self._environment is None:
            self._environment = self._choose_environment(test_mode(self) or config.test_mode)
        return await self._environment.build(config, make)

    def _choose_environment(self, mode: str | None) -> Environment:
        return choose_environment(self, mode, self._clock, self._store)

    def _store(self, url: str, config: Config) -> Store:
        return redis_store(url, config, self._clock)

    def _on_failure(self, error: BaseException) -> None:
        """One of kiqpy's own stages broke again and again: say so, above all to who waits."""
        _log.critical("%s is broken and must be stopped: %r", self.name, error)
        self._failure = self._failure or error
        if self._ended is not None:
            self._ended.set()

    def _on_signal(self, name: str) -> None:
        """Heed what was sent from afar: by `admin.signal`, or by Sidekiq's pages and its API."""
        if name == "TTIN":
            dump()
        elif name in ("TSTP", "CONT") and self._engine is not None:
            self._engine_task(self._engine.quiet(name == "TSTP"))
        elif name == "TERM" and self._ended is not None:
            self._ended.set()

    def _engine_task(self, run: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, grace: Duration | None = None) -> None:
        """Stop in order: quiet, let jobs end, push the rest back, flush, leave. Idempotent.

        `grace` (default `shutdown_timeout`) is what running jobs get; called again meanwhile, it
        may shorten the grace. Raises StoreUnavailable if `on_unflushed="raise"` and buffered jobs
        could not be made durable. Cancel: ends the grace; what must follow, seconds, is done first.
        """
        if self._starting:
            raise LifecycleError(f"{self.name} is still starting: cancel its start() instead")
        engine, self._engine = self._engine, None
        if engine is None:
            return self._hurry(grace)
        grace_s = engine.config.shutdown_timeout if grace is None else duration("grace", grace)
        self._stopping = engine
        try:
            unflushed = await whole(engine.stop(grace_s), on_cancel=engine.hurry)
        finally:
            self._stopping = None
        await self._clear_away()
        if self._ended is not None:
            self._ended.set()
        if unflushed:
            self._tell_unflushed(unflushed, engine.config.on_unflushed)

    def _tell_unflushed(self, jobs: int, how: str) -> None:
        message = f"{jobs} accepted jobs could not be made durable"
        if how == "raise":
            raise StoreUnavailable(message)
        _log.error("%s: %s", self.name, message)

    def _hurry(self, grace: Duration | None) -> None:
        if self._stopping is not None and grace is not None:
            self._clock.call_later(duration("grace", grace), self._stopping.hurry)

    async def _clear_away(self) -> None:
        under, self._environment = self._environment, None
        if under is not None:
            await under.close()

    async def wait_stopped(self) -> None:
        """Return when the app was told to stop from afar; raise what broke it, if anything did."""
        self._running()
        assert self._ended is not None
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()
        if self._failure is not None:
            raise self._failure

    @asynccontextmanager
    async def client_only(self) -> AsyncGenerator[Self]:
        """For a process that enqueues and runs nothing: no lease, no loops, no workers."""
        await self._start(server=False)
        try:
            yield self
        finally:
            await self.stop()

    @asynccontextmanager
    async def _running_in(
        self, environment: Environment, clock: Clock, stop: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[None]:
        """Run in a given environment, on its clock, until the block ends."""
        self._refuse_second_start()
        own_clock, self._clock, self._environment = self._clock, clock, environment
        try:
            await self._start(server=True)
            try:
                yield
            finally:
                await stop()
        finally:
            self._clock = own_clock
        if self._failure is not None:
            raise self._failure

    @property
    def started(self) -> bool:
        """Whether jobs are taken: from the end of `start` to the beginning of `stop`."""
        return self._engine is not None

    def _running(self) -> Engine:
        if self._engine is None:
            raise LifecycleError(
                f"{self.name} is not started: use `async with app:`, or enqueue_sync in a script"
            )
        return self._engine

    @property
    def client(self) -> JobClient:
        """The buffered client; `client.snapshot()` says how far behind it is."""
        return self._running().client

    @property
    def store(self) -> Store:
        """The store, for looking at what there is."""
        return self._running().store

    # -- hearing

    def attach(self, pattern: str, handler: Handler) -> None:
        """Call `handler(event)` for events whose name matches, such as `job.success`, `job.*`.

        Handlers are called in the event loop and must be quick. What they raise is logged. From
        any thread, at any time; counts from the next event. ConfigError: no event has such a name.
        """
        self._bus.attach(pattern, handler)

    def detach(self, handler: Handler) -> None:
        """Stop calling `handler`."""
        self._bus.detach(handler)


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    """What need not be read from the environment, which is read at the start."""
    return {name: value for name, value in given.items() if not holds_env(value)}


def _declared(cls: type) -> dict[str, Any]:
    """The options among the class attributes, nearest class first."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is Declaration:  # the defaults
            continue
        for name, value in vars(base).items():
            if name in NAMES or name == "concurrency":
                found[name] = value
            elif resembles(name, value) and not (value is None or value == () or value == []):
                refuse(name)
    return found

"""An app inside a web service: started before the first request, stopped after the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from inspect import isasyncgenfunction
from typing import TYPE_CHECKING, TypeVar, final

from kiqpy._flow.tasks import own_context
from kiqpy._runtime.lifecycle import Lifecycle

if TYPE_CHECKING:
    from kiqpy._runtime.health import HealthWatch
    from kiqpy.observe.health import Health, HealthProbes

WebApp = TypeVar("WebApp")
State = TypeVar("State")
Lifespan = Callable[[WebApp], AbstractAsyncContextManager[State]]

_log = logging.getLogger("kiqpy")


@final
class _Beside:
    """Runs the app while a service runs.

    A class, not an async generator: when another part of the service fails to start, aiohttp leaves
    `cleanup_ctx` to the event loop, which closes all open generators at the same time. One that
    awaits the end of another then fails.
    """

    def __init__(self, name: str, lifecycle: Lifecycle, server: bool | None) -> None:
        self._name = name
        self._lifecycle = lifecycle
        self._server = server

    async def __aenter__(self) -> None:
        await self._lifecycle.start(self._server)
        watch = self._watch(self._lifecycle.ending)
        self._watcher = asyncio.create_task(watch, name="kiqpy:watch", context=own_context())

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._watcher.cancel()
        await self._lifecycle.stop()
        if error is None:  # otherwise what ended the service counts more
            self._lifecycle.raise_failure()

    async def _watch(self, ending: asyncio.Event) -> None:
        """Log that the app broke while the service runs; the service does not wait for the app."""
        await ending.wait()
        if self._lifecycle.failure is not None:
            _log.critical(
                "%s no longer runs all of its jobs; the service around it goes on. "
                "Restart this process: app.failure tells a health check",
                self._name,
            )


class WebFace:
    """Context managers that run an app while a web service runs.

    None installs signal handlers: the app stops when the service stops. If the app breaks
    meanwhile, that is logged as critical, the service goes on, and at its end the error is raised.
    If an operator stops the process remotely (TERM via Redis), the app goes quiet; enqueueing
    continues.
    """

    name: str
    _lifecycle: Lifecycle

    @cached_property
    def _health_watch(self) -> HealthWatch:
        from kiqpy._runtime.health import HealthWatch  # only who asks pays for it

        return HealthWatch(self._lifecycle)

    async def health(self) -> Health:
        """How the app is: one check for each part, and from these `live` and `ready`.

        Also before the start, while it stops, and on a client-only app. It asks the store, unless
        that has answered within the last second, and takes half a second at most. Raises nothing.
        Cancel: safe.
        """
        return await self._health_watch.report()

    def probes(self) -> HealthProbes:
        """`/live` and `/ready` as an ASGI app: `service.mount("/health", jobs.probes())`.

        Each answers 200 or 503, and the report as JSON. Needs no framework and asks nobody who
        they are: the report has no arguments of jobs.
        """
        from kiqpy.observe.health import HealthProbes

        return HealthProbes(self.health)

    def _beside(self, *, client_only: bool = False) -> AbstractAsyncContextManager[None]:
        """The app runs within the block; as its options say, or as a client."""
        return _Beside(self.name, self._lifecycle, False if client_only else None)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncGenerator[None]:
        """The app runs while the service does: `FastAPI(lifespan=jobs.lifespan)`, Starlette too.

        Stopping takes up to `shutdown_timeout`. With the option `server=False` it only enqueues.
        If the app breaks meanwhile, that is logged as critical, the service goes on, and at its
        end the error is raised, unless the service itself failed. If an operator stops the app
        remotely, it goes quiet. Raises as `start` and `stop`. Cancel: ends the grace; jobs that
        still run go back to their queues.
        """
        async with self._beside():
            yield

    @asynccontextmanager
    async def client_lifespan(self, _app: object) -> AsyncGenerator[None]:
        """`lifespan` for a service that enqueues and leaves the jobs to `kiqpy run`."""
        async with self._beside(client_only=True):
            yield

    def lifespan_around(
        self, existing: Lifespan[WebApp, State], *, client_only: bool = False
    ) -> Lifespan[WebApp, State]:
        """A lifespan that starts the app, then enters `existing`, and leaves them in reverse.

        So `existing` may enqueue; what it yields is passed on. If it fails, the app is stopped and
        the error raised. Jobs that need what `existing` opens: say `async with jobs:` inside it.
        """
        # A bare generator is what FastAPI takes, too.
        enter = asynccontextmanager(existing) if isasyncgenfunction(existing) else existing

        @asynccontextmanager
        async def lifespan(app: WebApp) -> AsyncGenerator[State]:
            async with self._beside(client_only=client_only), enter(app) as state:
                yield state

        return lifespan

    async def cleanup_ctx(self, _app: object) -> AsyncGenerator[None]:
        """`lifespan` for aiohttp: `service.cleanup_ctx.append(jobs.cleanup_ctx)`."""
        async with self._beside():
            yield

    async def client_cleanup_ctx(self, _app: object) -> AsyncGenerator[None]:
        """`client_lifespan` for aiohttp."""
        async with self._beside(client_only=True):
            yield

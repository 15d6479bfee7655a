"""An app inside a web service: started before the first request, stopped after the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isasyncgenfunction
from typing import TypeVar, final

from kiqpy._runtime.control import Control

WebApp = TypeVar("WebApp")
State = TypeVar("State")
Lifespan = Callable[[WebApp], AbstractAsyncContextManager[State]]

_Watch = asyncio.Task[None]
_log = logging.getLogger("kiqpy")


@final
class _Beside:
    """The app while a service runs. No generator: closed by the loop, two would hinder each other.

    aiohttp leaves that to the loop when another part of the service fails to start.
    """

    def __init__(
        self, app: Embedding, start: Callable[[bool | None], Awaitable[_Watch]], server: bool | None
    ) -> None:
        self._app, self._start, self._server = app, start, server

    async def __aenter__(self) -> None:
        self._watch = await self._start(self._server)

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._watch.cancel()
        await self._app.stop()
        if error is None and self._app.failure is not None:
            raise self._app.failure  # otherwise what ended the service counts more


class Embedding(Control):
    """The doors for web frameworks. None of them takes a signal: the service's stop is the app's.

    If the app breaks while the service runs, that is logged as critical, the service goes on, and
    at its end the error is raised. Told to stop from afar, the app claims no more jobs; enqueueing
    goes on.
    """

    @property
    def failure(self) -> BaseException | None:
        """What broke the app for good, None while all is well. For a health check."""
        return self._failure

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncGenerator[None]:
        """The app runs while the service does: `FastAPI(lifespan=jobs.lifespan)`, Starlette too.

        Stopping takes up to `shutdown_timeout`. With `server=False` it only enqueues.
        Cancel: ends the grace; jobs that still run go back to their queues.
        """
        async with self._beside(None):
            yield

    @asynccontextmanager
    async def client_lifespan(self, _app: object) -> AsyncGenerator[None]:
        """The same for a service that enqueues and leaves the jobs to `kiqpy run`."""
        async with self._beside(False):
            yield

    def lifespan_around(
        self, existing: Lifespan[WebApp, State], *, client_only: bool = False
    ) -> Lifespan[WebApp, State]:
        """A lifespan that starts the app, then enters `existing`, and leaves them in reverse.

        So `existing` may enqueue; what it yields is passed on. If it fails, the app is stopped and
        the error raised. Jobs that need what `existing` opens: say `async with jobs:` inside it.
        """
        server = False if client_only else None
        # A bare generator is what FastAPI takes too.
        enter = asynccontextmanager(existing) if isasyncgenfunction(existing) else existing

        @asynccontextmanager
        async def lifespan(app: WebApp) -> AsyncGenerator[State]:
            async with self._beside(server), enter(app) as state:
                yield state

        return lifespan

    async def cleanup_ctx(self, _app: object) -> AsyncGenerator[None]:
        """The app runs while aiohttp's does: `service.cleanup_ctx.append(jobs.cleanup_ctx)`."""
        async with self._beside(None):
            yield

    async def client_cleanup_ctx(self, _app: object) -> AsyncGenerator[None]:
        """The same for a service that enqueues and leaves the jobs to `kiqpy run`."""
        async with self._beside(False):
            yield

    def _beside(self, server: bool | None) -> _Beside:
        return _Beside(self, self._watched, server)

    async def _watched(self, server: bool | None) -> _Watch:
        """Start; the task tells of what befalls the app until it is cancelled."""
        await self._start(server)
        assert self._ended is not None
        return asyncio.create_task(self._watch(self._ended), name="kiqpy:watch")

    async def _watch(self, ended: asyncio.Event) -> None:
        """Hear of the app's end while the service runs, which nobody else waits for."""
        await ended.wait()
        if self._failure is not None:
            _log.critical(
                "%s no longer runs all of its jobs; the service around it goes on. "
                "Restart this process: app.failure tells a health check", self.name,
            )  # fmt: skip
        elif self._engine is not None:
            _log.warning(
                "%s was told to stop from afar: it claims no more jobs; enqueueing goes on",
                self.name,
            )
            await self.quiet()

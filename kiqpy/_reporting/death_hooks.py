"""Calls users' code after a job's last failure: the worker's hook, then the app's handlers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence
from typing import ClassVar, final

import kiqpy.event as event
from kiqpy._registry import Registry
from kiqpy._spec import Hook
from kiqpy.errors import UnknownWorker
from kiqpy.event import Event
from kiqpy.job import Job
from kiqpy.reporter import Reporter

_log = logging.getLogger("kiqpy")


@final
class DeathHooks(Reporter):
    """Calls the hooks when the failure is durable, one job after the other; logs what they raise.

    A job that is dropped without a retry by its own wish (`retry=False`) has not used up any:
    only the app's handlers are called, as in Sidekiq. If the process dies just then, none is.
    """

    limit: ClassVar[int] = 10_000
    patience_s: ClassVar[float] = 25.0  # for one hook; then the next is called
    stall_timeout: ClassVar[float] = float("inf")

    def __init__(self, registry: Registry, handlers: Sequence[Hook]) -> None:
        self._registry = registry
        self._handlers = handlers

    def listens_to(self) -> frozenset[type[Event]]:
        wanted = self._handlers or any(spec.has_exhausted_hook() for spec in self._registry.specs())
        return frozenset({event.JobFailure} if wanted else ())

    async def handle_failure(self, job: Job, error: BaseException, meta: event.JobFailure) -> None:
        if meta.retry_in_s is not None:
            return
        hook = self._hook(job) if job.payload.get("retry") is not False else None
        for call in (hook, *self._handlers):
            if call is not None:
                await self._call(call, job, error)

    def _hook(self, job: Job) -> Hook | None:
        try:
            return self._registry.find(job.class_).exhausted_hook(job)
        except UnknownWorker:
            return None
        except Exception:  # a class whose objects can't even be made
            _log.exception(
                "%s could not be made, after the last failure of %s", job.class_, job.jid
            )
            return None

    async def _call(self, hook: Hook, job: Job, error: BaseException) -> None:
        name = getattr(hook, "__qualname__", repr(hook))
        try:
            answer = hook(job, error)
            if inspect.isawaitable(answer):
                async with asyncio.timeout(self.patience_s):
                    await answer
        except (Exception, SystemExit, asyncio.CancelledError):  # the user's code
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            _log.exception("%s raised, after the last failure of job %s", name, job.jid)

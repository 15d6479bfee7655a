"""Finds tasks that outlive the job that started them, by their context."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable
from typing import Final, Literal, final

from kiqpy._flow.loop import Loop
from kiqpy.current import job_of
from kiqpy.event import Event, JobLeakedTask
from kiqpy.job import Job

_LEAKS_S: Final = 5.0


@final
class LeakWatch(Loop):
    """Finds tasks that outlived the job that started them; reports them, or cancels them, too.

    A task knows its job by the context it was started in. One that is meant to live on, such as a
    connection pool's, must be started in a context of its own.
    """

    name = "leaks"

    def __init__(self, how: Literal["cancel", "report"], emit: Callable[[Event], None]) -> None:
        self._how = how
        self._emit = emit
        self._reported: set[asyncio.Task[object]] = set()

    async def tick(self) -> float:
        tasks = asyncio.all_tasks()
        self._reported &= tasks
        for task in tasks - self._reported:
            job = job_of(_context(task))
            if job is not None and job.over and not task.cancelling():
                self._leaked(task, job)
        return _LEAKS_S

    def _leaked(self, task: asyncio.Task[object], job: Job) -> None:
        self._reported.add(task)
        self._emit(JobLeakedTask(job, task.get_name(), self._how == "cancel"))
        if self._how == "cancel":
            task.cancel()


def _context(task: asyncio.Task[object]) -> contextvars.Context | None:
    """The context a task runs in, which Python 3.11 keeps to itself."""
    found = (it for it in gc.get_referents(task) if isinstance(it, contextvars.Context))
    return next(found, None)

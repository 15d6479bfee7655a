"""Finds tasks that outlive the job that started them, by their context."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable
from typing import Any, Final, Literal, final

from kiqpy._flow.loop import Loop
from kiqpy.current import job_of
from kiqpy.event import Event, JobLeakedTask
from kiqpy.job import Job

_LEAKS_S: Final = 5.0


@final
class LeakWatch(Loop):
    """Finds tasks that outlived the job that started them; reports them, or cancels them, too.

    A task knows its job by the context it was started in. A place in the code that leaves many is
    reported once; each task that is cancelled is.
    """

    name = "leaks"

    def __init__(self, how: Literal["cancel", "report"], emit: Callable[[Event], None]) -> None:
        self._cancels = how == "cancel"
        self._emit = emit
        self._seen: set[asyncio.Task[object]] = set()
        self._told: set[str] = set()  # places

    async def tick(self) -> float:
        tasks = asyncio.all_tasks()
        self._seen &= tasks
        for task in tasks - self._seen:
            job = job_of(_context(task))
            if job is not None and job.over and not task.cancelling():
                self._seen.add(task)
                self._leaked(task, job)
        return _LEAKS_S

    def _leaked(self, task: asyncio.Task[object], job: Job) -> None:
        place = _place(task.get_coro())
        if self._cancels or place not in self._told:
            self._told.add(place)
            self._emit(JobLeakedTask(job, task.get_name(), place, self._cancels))
        if self._cancels:
            task.cancel()


def _place(body: object) -> str:
    """Where a task's code begins, "FILE:LINE in FUNCTION"; its repr, if it is not Python code."""
    code: Any = getattr(body, "cr_code", None) or getattr(body, "gi_code", None)
    if code is None:
        return getattr(body, "__qualname__", None) or type(body).__name__
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}"


def _context(task: asyncio.Task[object]) -> contextvars.Context | None:
    """The context a task runs in, which Python 3.11 keeps to itself."""
    found = (it for it in gc.get_referents(task) if isinstance(it, contextvars.Context))
    return next(found, None)

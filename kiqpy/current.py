"""Which job this code runs for."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Final, TypeVar, overload

from kiqpy.job import Job

T = TypeVar("T")
_NO_DEFAULT: Final = object()
_current: ContextVar[Job] = ContextVar("kiqpy_current_job")


@overload
def current_job() -> Job: ...
@overload
def current_job(default: T, /) -> Job | T: ...
def current_job(default: object = _NO_DEFAULT, /) -> object:
    """The job this code runs for; threads of sync jobs see it too.

    Outside of a job: `default` if one is given, such as `current_job(None)`; else LookupError.
    """
    job = _current.get(None)
    if job is None and default is _NO_DEFAULT:
        raise LookupError("no job runs here; current_job(None) is None outside of one")
    return default if job is None else job


def enter_job(job: Job) -> None:
    """Make `job` the current one for the rest of this context. For the stage that runs it."""
    _current.set(job)


def job_of(context: Context | None) -> Job | None:
    """The job that a context belongs to."""
    return None if context is None else context.get(_current)

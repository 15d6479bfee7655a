"""Which job this code runs for."""

from __future__ import annotations

from contextvars import Context, ContextVar

from kiqpy.job import Job

_current: ContextVar[Job] = ContextVar("kiqpy_current_job")


def current_job() -> Job:
    """The job this code runs for. LookupError outside of one; threads of sync jobs see it too."""
    return _current.get()


def enter_job(job: Job) -> None:
    """Make `job` the current one for the rest of this context. For the stage that runs it."""
    _current.set(job)


def job_of(context: Context | None) -> Job | None:
    """The job that a context belongs to."""
    return None if context is None else context.get(_current)

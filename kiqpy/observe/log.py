"""Log lines after the fact: a job's line is written when its outcome is durable.

structlog is used as the application has configured it. If it has not, lines go to the standard
library's logger `kiqpy`, which says nothing below WARNING unless the application wants it to.
Nothing is configured here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Final, final

import structlog

from kiqpy import event
from kiqpy.bus import Bus
from kiqpy.event import Event
from kiqpy.job import Job
from kiqpy.reporter import Reporter

_WARNINGS: Final[tuple[type[Event], ...]] = (
    event.JobDead, event.JobFenced, event.JobSwallowedCancel, event.JobLeakedTask,
    event.JobRecovered, event.JobBackoffRefused, event.FlushFailed, event.FetchFailed,
    event.ReporterDetached, event.LeaseLapsed, event.LoopLag,
)  # fmt: skip
_NOTES: Final[tuple[type[Event], ...]] = (
    event.JobCancelled, event.FlushRestored, event.QueueRunning, event.QueuePausing,
    event.QueuePaused, event.ProcessStarted, event.ProcessQuiet, event.ProcessStopping,
    event.ProcessStopped, event.LeaderElected, event.LeaderResigned,
)  # fmt: skip


def logger() -> Any:
    """structlog's logger if the application configured it, else one over the standard library."""
    if structlog.is_configured():
        return structlog.get_logger("kiqpy")
    return structlog.wrap_logger(
        logging.getLogger("kiqpy"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def enabled(log: Any, level: int) -> bool:
    """Whether a line of this level would be written."""
    for name in ("is_enabled_for", "isEnabledFor"):
        if hasattr(log, name):
            return bool(getattr(log, name)(level))
    return True


def context() -> Callable[[Job], None] | None:
    """What binds a job to structlog's lines written in the job's own task.

    None unless the application configured `structlog.contextvars.merge_contextvars`: nobody would
    see it.
    """
    merge = structlog.contextvars.merge_contextvars
    if structlog.is_configured() and merge in structlog.get_config()["processors"]:
        return _bind
    return None


def _bind(job: Job) -> None:
    structlog.contextvars.bind_contextvars(**_of(job))


@final
class Log(Reporter):
    """A line for a job's start, its end, its failure, each at its level; unwanted ones are free.

    A job that took longer than `slow_after` seconds gets one more, `job.slow`, at WARNING.
    """

    limit: ClassVar[int] = 10_000

    def __init__(
        self,
        start_level: str = "debug",
        done_level: str = "info",
        fail_level: str = "warning",
        slow_after: float | None = None,
    ) -> None:
        self._log = logger()
        self._start_level, self._done_level, self._fail_level = start_level, done_level, fail_level
        self._slow_after = slow_after

    def attach(self, bus: Bus) -> None:
        """Write what happens outside of jobs, too."""
        for kind in _WARNINGS:
            bus.attach(kind.name, self._warn)
        for kind in _NOTES:
            bus.attach(kind.name, self._note)
        for kind in (event.QueueRestarted, event.JobRefused):
            bus.attach(kind.name, self._alarm)

    def detach(self, bus: Bus) -> None:
        """Write no more of it."""
        for handler in (self._warn, self._note, self._alarm):
            bus.detach(handler)

    def hears(self) -> frozenset[type[Event]]:
        kinds: dict[type[Event], str] = {
            event.JobStarted: self._start_level,
            event.JobSuccess: self._done_level,
            event.JobAborted: self._done_level,
            event.JobFailure: self._fail_level,
        }
        heard = {kind for kind, level in kinds.items() if enabled(self._log, _number(level))}
        if self._slow_after is not None and enabled(self._log, logging.WARNING):
            heard |= {event.JobSuccess, event.JobAborted, event.JobFailure}
        return frozenset(heard)

    def handle_started(self, job: Job) -> None:
        self._write(self._start_level, "job.started", job)

    def handle_success(self, job: Job, meta: event.JobSuccess) -> None:
        self._ended(self._done_level, "job.success", job, meta.took_s)

    def handle_aborted(self, job: Job, meta: event.JobAborted) -> None:
        self._ended(self._done_level, "job.aborted", job, meta.took_s, reason=meta.reason)

    def handle_failure(self, job: Job, error: BaseException, meta: event.JobFailure) -> None:
        again_s = None if meta.retry_in_s is None else round(meta.retry_in_s, 3)
        said = f"{type(error).__name__}: {_text(error)}"
        self._ended(
            self._fail_level, "job.failure", job, meta.took_s, error=said, retry_in_s=again_s
        )

    def _ended(self, level: str, line: str, job: Job, took_s: float, **more: object) -> None:
        took_s = round(took_s, 6)
        self._write(level, line, job, took_s=took_s, **more)
        if self._slow_after is not None and took_s > self._slow_after:
            self._write("warning", "job.slow", job, took_s=took_s)

    def _write(self, level: str, line: str, job: Job, **more: object) -> None:
        getattr(self._log, level)(line, **_of(job), **more)

    def _warn(self, happened: Event) -> None:
        self._log.warning(happened.name, **_fields(happened))

    def _note(self, happened: Event) -> None:
        self._log.info(happened.name, **_fields(happened))

    def _alarm(self, happened: Event) -> None:
        self._log.error(happened.name, **_fields(happened))


def _number(level: str) -> int:
    return int(getattr(logging, level.upper()))


def _of(job: Job) -> dict[str, Any]:
    return {"jid": job.jid, "class": job.class_, "queue": job.queue, "attempt": job.attempt}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except Exception:  # the user's class
        return "(no message could be read)"


def _fields(happened: Event) -> dict[str, Any]:
    """An event's fields, without the bytes and the arguments of jobs."""
    fields: dict[str, Any] = {}
    for name in happened.__dataclass_fields__:
        value = getattr(happened, name, None)
        if name in ("raw", "name", "payload"):
            continue
        if isinstance(value, Job):
            fields |= _of(value)
        else:
            fields[name] = _text(value) if isinstance(value, BaseException) else value
    return fields

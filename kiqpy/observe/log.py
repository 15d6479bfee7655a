"""Log lines after the fact: a job's line is written when its outcome is durable.

structlog is used as the application has configured it. If it has not, lines go to the standard
library's logger `kiqpy`, which says nothing below WARNING unless the application wants it to.
Nothing is configured here.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Final, final

import structlog

from kiqpy import event
from kiqpy.bus import Bus
from kiqpy.event import Event
from kiqpy.job import Job
from kiqpy.reporter import Reporter

_WARNINGS: Final[tuple[type[Event], ...]] = (
    event.JobDead, event.JobFenced, event.JobSwallowedCancel, event.JobRecovered,
    event.FlushFailed, event.FetchFailed, event.ReporterDetached, event.LeaseLapsed,
)  # fmt: skip
_NOTES: Final[tuple[type[Event], ...]] = (
    event.FlushRestored, event.ProcessStarted, event.ProcessQuiet, event.ProcessStopped,
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


@final
class Log(Reporter):
    """A line for a start (DEBUG), an end (INFO), a failure (WARNING); unwanted ones are free."""

    limit: ClassVar[int] = 10_000

    def __init__(self) -> None:
        self._log = logger()

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
        kinds = {
            event.JobStarted: logging.DEBUG,
            event.JobSuccess: logging.INFO,
            event.JobAborted: logging.INFO,
            event.JobFailure: logging.WARNING,
        }
        return frozenset(kind for kind, level in kinds.items() if enabled(self._log, level))

    def handle_started(self, job: Job) -> None:
        self._log.debug("job.started", **_of(job))

    def handle_success(self, job: Job, meta: event.JobSuccess) -> None:
        self._log.info("job.success", **_of(job), took_s=round(meta.took_s, 6))

    def handle_aborted(self, job: Job, meta: event.JobAborted) -> None:
        self._log.info("job.aborted", **_of(job), reason=meta.reason)

    def handle_failure(self, job: Job, error: BaseException, meta: event.JobFailure) -> None:
        again_s = None if meta.retry_in_s is None else round(meta.retry_in_s, 3)
        self._log.warning(
            "job.failure", **_of(job), error=f"{type(error).__name__}: {_text(error)}",
            retry_in_s=again_s,
        )  # fmt: skip

    def _warn(self, happened: Event) -> None:
        self._log.warning(happened.name, **_fields(happened))

    def _note(self, happened: Event) -> None:
        self._log.info(happened.name, **_fields(happened))

    def _alarm(self, happened: Event) -> None:
        self._log.error(happened.name, **_fields(happened))


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

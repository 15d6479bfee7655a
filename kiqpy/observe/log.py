"""Log lines after the fact: a job's line is written when its outcome is durable.

structlog is used as the application has configured it. If it has not, lines go to the standard
library's logger `kiqpy`, which says nothing below WARNING unless the application wants it to.
Nothing is configured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, final

from kiqpy import event
from kiqpy._rules.backoff import class_name, message
from kiqpy.event import Event
from kiqpy.job import Job
from kiqpy.observe._sinks import LogLine, fields_of, log_writer, structlog
from kiqpy.reporter import Reporter

_MAX_MESSAGE_CHARS: Final = 1000
_WARNINGS: Final[tuple[type[Event], ...]] = (
    event.JobSwallowedCancel,
    event.JobLeakedTask,
    event.JobRecovered,
    event.FlushFailed,
    event.FetchFailed,
    event.ReporterDetached,
    event.LeaseLapsed,
    event.LoopLag,
    event.ExecutorExhausted,
)
_INFOS: Final[tuple[type[Event], ...]] = (
    event.FlushRestored,
    event.FetchRestored,
    event.QueueRunning,
    event.QueuePausing,
    event.QueuePaused,
    event.ProcessStarted,
    event.ProcessQuiet,
    event.ProcessStopping,
    event.ProcessStopped,
    event.LeaderElected,
    event.LeaderResigned,
)
_ERRORS: Final[tuple[type[Event], ...]] = (
    event.QueueRestarted,
    event.LoopFailed,
    event.JobRefused,
)


# What else is told of a job's end: by the reporter, so that its lines keep their order.
_ENDS: Final[Mapping[type[Event], str]] = {
    event.JobCancelled: "info",
    event.JobDead: "warning",
    event.JobFenced: "warning",
    event.JobBackoffRefused: "warning",
}


def context() -> Callable[[Job], None] | None:
    """What binds a job to structlog's lines written in the job's own task.

    None unless the application configured `structlog.contextvars.merge_contextvars`: without it no
    line shows what is bound.
    """
    configured = structlog()
    if configured is None:
        return None
    merged = configured.contextvars.merge_contextvars in configured.get_config()["processors"]
    bind = configured.contextvars.bind_contextvars
    return (lambda job: bind(**fields_of(job))) if merged else None


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
        self._writer = log_writer()
        self._start_level = start_level
        self._done_level = done_level
        self._fail_level = fail_level
        self._slow_after = slow_after
        self.batches = self._writer.batches

    def handlers(self) -> list[tuple[str, Callable[[Event], None]]]:
        """Event names and what writes their lines: for what happens outside of jobs."""
        return [
            *((kind.name, self._info) for kind in _INFOS),
            *((kind.name, self._warning) for kind in _WARNINGS),
            *((kind.name, self._error) for kind in _ERRORS),
        ]

    def listens_to(self) -> frozenset[type[Event]]:
        kinds: dict[type[Event], str] = {
            event.JobStarted: self._start_level,
            event.JobSuccess: self._done_level,
            event.JobAborted: self._done_level,
            event.JobFailure: self._fail_level,
            **_ENDS,
        }
        logged = {kind for kind, level in kinds.items() if self._writer.enabled(level)}
        if self._slow_after is not None and self._writer.enabled("warning"):
            logged |= {event.JobSuccess, event.JobAborted, event.JobFailure}
        return frozenset(logged)

    def handle(self, event: Event) -> None:
        self.handle_many((event,))

    def handle_many(self, events: Sequence[Event]) -> None:
        start, done, slow_after = self._start_level, self._done_level, self._slow_after
        lines: list[LogLine] = []
        for happened in events:
            if isinstance(happened, event.JobStarted):
                lines.append((start, "job.started", happened.job, None, None))
                continue
            if isinstance(happened, event.JobSuccess):
                lines.append((done, "job.success", happened.job, happened.took_s, None))
            elif isinstance(happened, event.JobAborted | event.JobFailure):
                lines.append(self._other(happened))
            else:
                lines = self._written(lines, happened)
                continue
            if slow_after is not None and happened.took_s > slow_after:
                lines.append(("warning", "job.slow", happened.job, happened.took_s, None))
        self._writer.lines(lines)

    def _written(self, lines: list[LogLine], happened: Event) -> list[LogLine]:
        """No lines: those collected are written, and that of a rarer event."""
        self._writer.lines(lines)
        if (level := _ENDS.get(type(happened))) is not None:
            self._writer.write(level, happened.name, _fields(happened))
        return []

    def _other(self, happened: event.JobAborted | event.JobFailure) -> LogLine:
        if isinstance(happened, event.JobAborted):
            level, more = self._done_level, {"reason": happened.reason}
            return level, happened.name, happened.job, happened.took_s, more
        return self._fail_level, happened.name, happened.job, happened.took_s, _failure(happened)

    def _warning(self, happened: Event) -> None:
        self._writer.write("warning", happened.name, _fields(happened))

    def _info(self, happened: Event) -> None:
        self._writer.write("info", happened.name, _fields(happened))

    def _error(self, happened: Event) -> None:
        self._writer.write("error", happened.name, _fields(happened))


def _failure(happened: event.JobFailure) -> dict[str, Any]:
    """What went wrong, at which line of the user's code, and the stack; what there is of it."""
    from kiqpy._rules.stack import place, traceback  # when a job fails, not at each import

    error, again_s = happened.error, happened.retry_in_s
    more: dict[str, Any] = {"error": _text(error)}
    if at := place(error):
        more["at"] = at
    more["retry_in_s"] = None if again_s is None else round(again_s, 3)
    if stack := traceback(error):
        more["stack"] = stack
    return more


def _text(error: BaseException) -> str:
    return f"{class_name(error)}: {message(error)[:_MAX_MESSAGE_CHARS]}"


def _fields(happened: Event) -> dict[str, Any]:
    """An event's fields, without the bytes and the arguments of jobs."""
    fields: dict[str, Any] = {}
    for name, field in happened.__dataclass_fields__.items():
        value: Job | BaseException | str | float | None = getattr(happened, name, None)
        if name in ("raw", "name", "payload") or (value is None and field.default is None):
            continue
        if isinstance(value, Job):
            fields |= fields_of(value)
        else:
            fields[name] = _text(value) if isinstance(value, BaseException) else value
    return fields

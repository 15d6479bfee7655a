"""Values for the job pages, shortened: a row may hold anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast, final

from kiqpy.admin import Admin, JobRow, RunningJob
from kiqpy.job import Job, seconds
from kiqpy.web import _format as to
from kiqpy.web._links import link, queue_link

Redact = Callable[[Job], object]
_MAX_NAME, _MAX_ARGS, _MAX_ERROR, _MAX_TAGS = 100, 160, 200, 8
_MAX_WHOLE: Final = 20_000  # characters of one value on a job's own page
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class JobView(NamedTuple):
    """A line of a list."""

    token: str
    href: str
    jid: str
    class_: str
    queue: str
    queue_href: str
    args: str
    error: str
    tags: Sequence[str]
    at: float | None
    enqueued_at: float | None
    attempt: int | None
    readable: bool
    process: str = ""


class TimelineEntry(NamedTuple):
    """A line of a timeline."""

    at: float
    what: str


class Detail(NamedTuple):
    """All that the page of one job shows."""

    line: JobView
    place: str
    args: to.Clipped
    error_class: str
    error_message: to.Clipped
    backtrace: Sequence[str]
    payload: to.Clipped
    timeline: Sequence[TimelineEntry]
    retry: str
    trace_id: str


@final
class Views:
    """Makes lines and details of rows; `redact` says what is shown in place of arguments."""

    def __init__(self, redact: Redact | None) -> None:
        self._redact = redact

    @property
    def redacts(self) -> bool:
        return self._redact is not None

    def line(self, row: JobRow, process: str = "") -> JobView:
        """A line of a list."""
        error = ": ".join(part for part in (row.error_class, row.error_message) if part)
        return JobView(
            token=Admin.token(row),
            href=_href(row),
            jid=to.clip(row.jid, _MAX_NAME),
            class_=to.clip(row.class_, _MAX_NAME),
            queue=to.clip(row.queue, _MAX_NAME),
            queue_href=queue_link(row.queue),
            args=to.clip(self._args_text(row), _MAX_ARGS),
            error=to.clip(error, _MAX_ERROR),
            tags=_tags(row),
            at=row.at,
            enqueued_at=row.enqueued_at,
            attempt=row.job.attempt if row.job else None,
            readable=row.job is not None,
            process=process,
        )

    def running(self, job: RunningJob) -> JobView:
        """A line of the list of what runs."""
        return self.line(running_row(job), job.ident)

    def detail(self, row: JobRow, process: str = "") -> Detail:
        """All that the page of one job shows."""
        payload = row.job.payload if row.job else {}
        return Detail(
            line=self.line(row, process),
            place=row.place,
            args=to.cut(self._args_text(row, indent=2), _MAX_WHOLE),
            error_class=to.clip(row.error_class, _MAX_ERROR),
            error_message=to.cut(row.error_message, _MAX_WHOLE),
            backtrace=_backtrace(row),
            payload=to.cut(self._payload_text(row), _MAX_WHOLE),
            timeline=_timeline(row),
            retry=to.clip(to.as_json(payload.get("retry", True)), _MAX_NAME),
            trace_id=_trace_id(payload.get("traceparent")),
        )

    def _args_text(self, row: JobRow, indent: int | None = None) -> str:
        if row.job is None:
            return "" if self._redact else to.as_text(row.raw[:_MAX_WHOLE])
        return to.as_json(self._shown_args(row.job), indent=indent)

    def _shown_args(self, job: Job) -> object:
        if self._redact is None:
            return job.args
        try:
            return self._redact(job)
        except Exception as error:  # it is the user's; what it should hide stays hidden
            return [f"(redact failed: {type(error).__name__})"]

    def _payload_text(self, row: JobRow) -> str:
        if row.job is None:
            return "(hidden)" if self._redact else to.as_text(row.raw[: 4 * _MAX_WHOLE])
        return to.as_json({**row.job.payload, "args": self._shown_args(row.job)}, indent=2)


def running_row(job: RunningJob) -> JobRow:
    """A running job in the shape of all others."""
    return JobRow("running", job.job, job.raw, job.run_at)


def _href(row: JobRow) -> str:
    if row.place == "running":
        return link("job", place="running", jid=to.clip(row.jid, 200))
    return link("job", place=row.place, row=Admin.token(row))


def _tags(row: JobRow) -> Sequence[str]:
    found: object = row.job.payload.get("tags") if row.job else None
    tags = cast("list[object]", found) if isinstance(found, list) else []
    return [to.clip(tag, _MAX_NAME) for tag in tags[:_MAX_TAGS]]


def _backtrace(row: JobRow) -> Sequence[str]:
    text = to.cut("\n".join(row.error_backtrace), _MAX_WHOLE).text
    return text.split("\n") if text else []


def _trace_id(traceparent: object) -> str:
    found = _TRACE.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return found[1] if found else ""


_PLACE_WORDS: Final = {
    "scheduled": "due",
    "retry": "next attempt",
    "dead": "moved to the dead set",
    "running": "started",
}


def _timeline(row: JobRow) -> Sequence[TimelineEntry]:
    payload = row.job.payload if row.job else {}
    told = [
        (row.created_at, "created"),
        (row.enqueued_at, "last put into its queue"),
        (row.failed_at, "failed for the first time"),
        (row.retried_at, "failed again"),
        (seconds(payload.get("recovered_at")), "recovered from a process that died"),
        (seconds(payload.get("expires_at")), "expires"),
        (row.at, _PLACE_WORDS.get(row.place, "")),
    ]
    return sorted(TimelineEntry(at, what) for at, what in told if at is not None)

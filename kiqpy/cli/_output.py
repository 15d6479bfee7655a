"""Output on stdout: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import click

from kiqpy.admin import BulkResult, JobRow, Process, QueueRow, RunningJob, Stats
from kiqpy.admin._text import duration_text, instant_text

_MAX_CELL_WIDTH: Final = 60


def show(text: str) -> None:
    """Write a line to stdout."""
    click.echo(text)


def show_json(document: object) -> None:
    """Write one JSON document, in ASCII, which every terminal and pipe can encode."""
    click.echo(json.dumps(document))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], max_width: int = _MAX_CELL_WIDTH
) -> str:
    """Aligned columns with their heads in capitals; columns of numbers are right-aligned.

    Text longer than `max_width` is cut.
    """
    cells = [[_cell(value, max_width) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(heads, *cells, strict=True)]
    right = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(heads))]
    lines = [[head.upper() for head in heads], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right and rows else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object, max_width: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    text = plain(str(value))
    return text if len(text) <= max_width else text[: max_width - 3] + "..."


def plain(text: str) -> str:
    """The text with control characters escaped, so that a terminal does not obey them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def span(seconds: float | None) -> str | None:
    """A duration for people: 90.0 becomes 1m30s."""
    return None if seconds is None else duration_text(seconds)


def instant(at: float | None) -> str | None:
    """Epoch seconds as UTC text; as a number if no calendar reaches that far."""
    return None if at is None else instant_text(at)


def arguments(row: JobRow | RunningJob) -> str:
    """A job's arguments in one line, or the raw entry if it is not a job."""
    if row.job is None:
        return "(no job: " + row.raw[:_MAX_CELL_WIDTH].decode(errors="replace") + ")"
    return json.dumps(row.job.args, ensure_ascii=False)


# -- JSON documents; their field names are public


def job_document(row: JobRow) -> dict[str, Any]:
    document: dict[str, Any] = {
        "jid": row.jid,
        "place": row.place,
        "queue": row.queue,
        "class": row.class_,
        "args": row.args,
        "at": row.at,
        "created_at": row.created_at,
        "enqueued_at": row.enqueued_at,
        "failed_at": row.failed_at,
        "retried_at": row.retried_at,
        "retry_count": row.retry_count,
        "error_class": row.error_class or None,
        "error_message": row.error_message or None,
        "error_backtrace": row.error_backtrace or None,
        "readable": row.job is not None,
    }
    return document if row.job else document | {"raw": row.raw.decode(errors="replace")}


def queue_document(queue: QueueRow) -> dict[str, Any]:
    return {
        "name": queue.name,
        "size": queue.size,
        "latency_s": queue.latency_s,
        "paused": queue.paused,
    }


def stats_document(stats: Stats) -> dict[str, Any]:
    names = ("processed", "failed", "enqueued", "scheduled", "retry", "dead", "processes", "busy")
    document: dict[str, Any] = {name: getattr(stats, name) for name in names}
    document["days"] = [day._asdict() for day in stats.days]
    document["queues"] = [tally._asdict() for tally in stats.queues]
    return document


def process_document(process: Process) -> dict[str, Any]:
    return process._asdict()


def busy_document(row: RunningJob) -> dict[str, Any]:
    job = row.job
    return {
        "jid": job.jid if job else "",
        "class": job.class_ if job else "",
        "args": job.args if job else [],
        "queue": row.queue,
        "ident": row.ident,
        "run_at": row.run_at,
    }


def bulk_document(result: BulkResult) -> dict[str, Any]:
    return asdict(result)

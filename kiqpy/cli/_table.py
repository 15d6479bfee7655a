"""Answers on stdout: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from kiqpy.admin import BulkResult, JobRow, Process, Queue, RunningJob, Stats

_WIDEST: Final = 60
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def show(text: str) -> None:
    """A line on stdout."""
    click.echo(text)


def show_json(document: object) -> None:
    """One document; ASCII, so that any terminal and any pipe takes it."""
    click.echo(json.dumps(document))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they must be; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
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


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    text = plain(str(value))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def plain(text: str) -> str:
    """Text from elsewhere without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def span(seconds: float | None) -> str | None:
    """A duration for people: 90.0 -> 1m30s."""
    if seconds is None:
        return None
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    left, words = int(seconds), list[str]()
    for unit, size in _UNITS:
        if left >= size:
            words.append(f"{left // size}{unit}")
            left %= size
    return "".join(words[:2])


def instant(at: float | None) -> str | None:
    """Epoch seconds for people, in UTC; a time beyond all calendars as its number."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"


def arguments(row: JobRow | RunningJob) -> str:
    """A job's arguments in one line, or what stands in its stead."""
    if row.job is None:
        return "(no job: " + row.raw[:_WIDEST].decode(errors="replace") + ")"
    return json.dumps(row.job.args, ensure_ascii=False)


# -- the documents; their field names are a promise


def job_document(row: JobRow) -> dict[str, Any]:
    document: dict[str, Any] = {
        "jid": row.jid, "place": row.place, "queue": row.queue, "class": row.class_,
        "args": row.args, "at": row.at, "created_at": row.created_at,
        "enqueued_at": row.enqueued_at, "failed_at": row.failed_at, "retried_at": row.retried_at,
        "retry_count": row.retry_count, "error_class": row.error_class or None,
        "error_message": row.error_message or None, "readable": row.job is not None,
    }  # fmt: skip
    return document if row.job else document | {"raw": row.raw.decode(errors="replace")}


def queue_document(queue: Queue) -> dict[str, Any]:
    return {
        "name": queue.name, "size": queue.size, "latency_s": queue.latency_s,
        "paused": queue.paused,
    }  # fmt: skip


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
        "jid": job.jid if job else "", "class": job.class_ if job else "",
        "args": job.args if job else [], "queue": row.queue, "ident": row.ident,
        "run_at": row.run_at,
    }  # fmt: skip


def acted_document(acted: BulkResult) -> dict[str, Any]:
    return {
        "done": acted.done, "gone": acted.gone, "unreadable": acted.unreadable,
        "missing": list(acted.missing), "complete": acted.complete,
    }  # fmt: skip

"""`kiqpy stats | queues | jobs | show | workers`: read-only commands."""

from __future__ import annotations

import json
from typing import Final

import click

from kiqpy.admin import JobRow, Page, Process, RunningJob
from kiqpy.app import App
from kiqpy.cli import _output as output
from kiqpy.cli._screen import complain
from kiqpy.cli._target import Target, with_target
from kiqpy.clock import SystemClock
from kiqpy.job import Job

_SETS: Final = ("retry", "scheduled", "dead")
_MAX_RUNNING_SHOWN: Final = 100


@click.command(short_help="show totals, by day and by queue")
@click.option(
    "--days",
    type=click.IntRange(0, 1830),
    default=7,
    show_default=True,
    metavar="N",
    help="Show the last N days.",
)
@with_target
def stats(target: Target, days: int) -> int:
    """Show how many jobs were processed, failed and are waiting."""

    async def ask(app: App) -> int:
        found = await app.admin.stats(days)
        if target.as_json:
            output.show_json(output.stats_document(found))
            return 0
        names = ("processed", "failed", "enqueued", "scheduled", "retry", "dead", "processes")
        rows = [(name, int(getattr(found, name))) for name in (*names, "busy")]
        output.show("\n".join(f"{name:<10} {count:>12,}" for name, count in rows))
        if found.days:
            output.show("\n" + output.table(("day", "processed", "failed"), found.days))
        if found.queues:
            output.show("\n" + output.table(("queue", "processed", "failed"), found.queues))
        return 0

    return target.run(ask)


@click.command(short_help="list queues: size, latency, paused")
@with_target
def queues(target: Target) -> int:
    """List all queues: waiting jobs, age of the oldest, and whether the queue is paused."""

    async def ask(app: App) -> int:
        found = await app.admin.queues()
        if target.as_json:
            output.show_json({"queues": [output.queue_document(queue) for queue in found]})
        elif found:
            rows = [(q.name, q.size, output.span(q.latency_s), q.paused) for q in found]
            output.show(output.table(("queue", "size", "latency", "paused"), rows))
        else:
            output.show("no queues")
        return 0

    return target.run(ask)


@click.command(short_help="list jobs of retry, scheduled, dead or queue:NAME")
@click.argument("place", metavar="PLACE")
@click.option(
    "--page",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Show page N.",
)
@click.option(
    "--per",
    type=click.IntRange(1, 1000),
    default=25,
    show_default=True,
    metavar="N",
    help="Jobs per page.",
)
@click.option(
    "--newest/--oldest",
    default=None,
    help="Which jobs come first.  [default: newest for dead, else oldest]",
)
@with_target
def jobs(target: Target, place: str, page: int, per: int, newest: bool | None) -> int:
    """List the jobs of PLACE: retry, scheduled, dead, or a queue: queue:NAME, or just NAME."""

    async def ask(app: App) -> int:
        at = await _place(app, place)
        found = await app.admin.jobs(at, page=page, per=per, newest=newest)
        if target.as_json:
            output.show_json(
                {
                    "place": at,
                    "page": page,
                    "per": per,
                    "pages": found.pages,
                    "total": found.total,
                    "jobs": [output.job_document(row) for row in found.rows],
                }
            )
        else:
            output.show(_jobs(at, found))
        return 0

    return target.run(ask)


async def _place(app: App, name: str) -> str:
    """A place, or a queue that there is, by its bare name."""
    if name in _SETS or name.startswith("queue:"):
        return name
    return f"queue:{name}" if name in {row.name for row in await app.admin.queues()} else name


def _jobs(place: str, page: Page) -> str:
    heads = ("jid", "class", "args", "queue", "due (UTC)", "error")
    if place == "dead":
        heads = (*heads[:4], "died (UTC)", "error")
    elif place.startswith("queue:"):
        heads = (*heads[:4], "queued (UTC)", "error")
    rows = [
        (
            row.jid,
            row.class_,
            output.arguments(row),
            row.queue,
            output.instant(_time(row)),
            _error(row),
        )
        for row in page.rows
    ]
    where = f"page {page.number} of {page.pages}, {page.total:,} jobs in {place}"
    return f"{output.table(heads, rows)}\n{where}" if rows else where


def _time(row: JobRow) -> float | None:
    return row.enqueued_at if row.at is None else row.at


def _error(row: JobRow) -> str:
    return f"{row.error_class}: {row.error_message}" if row.error_class else ""


@click.command(short_help="show one job with all its fields")
@click.argument("jid")
@click.option("--place", metavar="PLACE", help="Search only retry, scheduled, dead or queue:NAME.")
@with_target
def show(target: Target, jid: str, place: str | None) -> int:
    """Find the job JID in any place, and show all its fields."""

    async def ask(app: App) -> int:
        found = await app.admin.find(jid, place)
        row = found.row
        if row is None or row.job is None:
            how = "" if found.complete else "; there are more, so name its --place"
            complain(f"no job {jid} among the {found.searched:,} jobs searched{how}")
            return 1
        if target.as_json:
            output.show_json(output.job_document(row) | {"payload": row.job.payload})
        else:
            output.show(_fields(row, row.job))
        return 0

    return target.run(ask)


def _fields(row: JobRow, job: Job) -> str:
    """Each field on a line, the backtrace on as many as it has."""
    stack = row.error_backtrace
    lines = [("place", row.place), ("at", output.instant(row.at) or "-")]
    lines += (
        (name, _value(value))
        for name, value in job.payload.items()
        if not (stack and name == "error_backtrace")
    )
    lines += zip(["error_backtrace", *[""] * len(stack)], map(output.plain, stack), strict=False)
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{output.plain(name):<{width}}  {text}" for name, text in lines)


def _value(value: object) -> str:
    return output.plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@click.command(short_help="list processes and the jobs they run")
@with_target
def workers(target: Target) -> int:
    """List live processes, and the jobs they were running at their last heartbeat."""

    async def ask(app: App) -> int:
        found, busy = await app.admin.processes(), await app.admin.busy()
        if target.as_json:
            output.show_json(
                {
                    "processes": [output.process_document(process) for process in found],
                    "busy": [output.busy_document(row) for row in busy],
                }
            )
        elif found:
            output.show(_processes(found) + ("\n\n" + _running(busy) if busy else ""))
        else:
            output.show("no processes")
        return 0

    return target.run(ask)


def _processes(found: list[Process]) -> str:
    now = SystemClock().now()
    heads = ("process", "busy", "limit", "queues", "quiet", "up", "heartbeat", "memory MB")
    rows = [
        (
            one.ident,
            one.busy,
            one.concurrency,
            " ".join(one.queues),
            one.quiet,
            output.span(one.started_at and now - one.started_at),
            output.span(one.beat_at and now - one.beat_at),
            one.rss_kb // 1024,
        )
        for one in found
    ]
    return output.table(heads, rows)


def _running(busy: list[RunningJob]) -> str:
    now = SystemClock().now()
    heads = ("jid", "class", "args", "queue", "for", "process")
    rows = [
        (
            row.job.jid if row.job else "",
            row.job.class_ if row.job else "",
            output.arguments(row),
            row.queue,
            output.span(row.run_at and now - row.run_at),
            row.ident,
        )
        for row in busy[:_MAX_RUNNING_SHOWN]
    ]
    more = len(busy) - len(rows)
    return output.table(heads, rows) + (f"\nand {more:,} more" if more else "")

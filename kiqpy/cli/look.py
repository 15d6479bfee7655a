"""`kiqpy stats | queues | jobs | show | workers`: what there is. Changes nothing."""

from __future__ import annotations

import json
from typing import Final

import click

from kiqpy.admin import JobRow, Page, Process, RunningJob
from kiqpy.app import App
from kiqpy.cli import _table as to
from kiqpy.cli._reach import Reach, reaches
from kiqpy.cli._screen import complain
from kiqpy.clock import SystemClock

_BUSY_SHOWN: Final = 100


@click.command(short_help="all numbers: totals, days, queues")
@click.option("--days", type=click.IntRange(0, 1830), default=7, show_default=True, metavar="N")
@reaches
def stats(reach: Reach, days: int) -> int:
    """How much was processed and failed, and how much waits."""

    async def ask(app: App) -> int:
        found = await app.admin.stats(days)
        if reach.as_json:
            to.show_json(to.stats_document(found))
            return 0
        names = ("processed", "failed", "enqueued", "scheduled", "retry", "dead", "processes")
        rows = [(name, int(getattr(found, name))) for name in (*names, "busy")]
        to.show("\n".join(f"{name:<10} {count:>12,}" for name, count in rows))
        if found.days:
            to.show("\n" + to.table(("day", "processed", "failed"), found.days))
        if found.queues:
            to.show("\n" + to.table(("queue", "processed", "failed"), found.queues))
        return 0

    return reach.run(ask)


@click.command(short_help="queues: sizes, latencies, pauses")
@reaches
def queues(reach: Reach) -> int:
    """Every queue: how many jobs wait, for how long the oldest has, and whether it is paused."""

    async def ask(app: App) -> int:
        found = await app.admin.queues()
        if reach.as_json:
            to.show_json({"queues": [to.queue_document(queue) for queue in found]})
        elif found:
            rows = [(q.name, q.size, to.span(q.latency_s), q.paused) for q in found]
            to.show(to.table(("queue", "size", "latency", "paused"), rows))
        else:
            to.show("no queues")
        return 0

    return reach.run(ask)


@click.command(short_help="a page of retry, scheduled, dead or queue:NAME")
@click.argument("place", metavar="PLACE")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True, metavar="N")
@click.option("--per", type=click.IntRange(1, 1000), default=25, show_default=True, metavar="N")
@click.option(
    "--newest/--oldest", default=None, help="Which end first.  [default: dead: newest, else oldest]"
)
@reaches
def jobs(reach: Reach, place: str, page: int, per: int, newest: bool | None) -> int:
    """The jobs of PLACE: retry, scheduled, dead or queue:NAME."""

    async def ask(app: App) -> int:
        found = await app.admin.jobs(place, page=page, per=per, newest=newest)
        if reach.as_json:
            to.show_json(
                {
                    "place": place, "page": page, "per": per, "pages": found.pages,
                    "total": found.total, "jobs": [to.job_document(row) for row in found.rows],
                }
            )  # fmt: skip
        else:
            to.show(_jobs(place, found))
        return 0

    return reach.run(ask)


def _jobs(place: str, page: Page) -> str:
    heads = ("jid", "class", "args", "queue", "due (UTC)", "error")
    if place == "dead":
        heads = (*heads[:4], "died (UTC)", "error")
    elif place.startswith("queue:"):
        heads = (*heads[:4], "queued (UTC)", "error")
    rows = [
        (row.jid, row.class_, to.arguments(row), row.queue, to.instant(_time(row)), _error(row))
        for row in page.rows
    ]
    where = f"page {page.number} of {page.pages}, {page.total:,} jobs in {place}"
    return f"{to.table(heads, rows)}\n{where}" if rows else where


def _time(row: JobRow) -> float | None:
    return row.enqueued_at if row.at is None else row.at


def _error(row: JobRow) -> str:
    return f"{row.error_class}: {row.error_message}" if row.error_class else ""


@click.command(short_help="one job with everything in it")
@click.argument("jid")
@click.option("--place", metavar="PLACE", help="Look only there.")
@reaches
def show(reach: Reach, jid: str, place: str | None) -> int:
    """Find the job JID, wherever it is, and show all of it."""

    async def ask(app: App) -> int:
        found = await app.admin.find(jid, place)
        row = found.row
        if row is None or row.job is None:
            how = "" if found.complete else "; gave up, name the --place"
            complain(f"no job {jid} among {found.searched:,} that were looked at{how}")
            return 1
        if reach.as_json:
            to.show_json(to.job_document(row) | {"payload": row.job.payload})
        else:
            heading = [("place", row.place), ("at", to.instant(row.at) or "-")]
            fields = [(name, _value(value)) for name, value in row.job.payload.items()]
            width = max(len(name) for name, _ in [*heading, *fields])
            to.show("\n".join(f"{to.plain(k):<{width}}  {v}" for k, v in [*heading, *fields]))
        return 0

    return reach.run(ask)


def _value(value: object) -> str:
    return to.plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@click.command(short_help="processes, and the jobs they run")
@reaches
def workers(reach: Reach) -> int:
    """The processes that live, and what they said at their last heartbeat that they run."""

    async def ask(app: App) -> int:
        found, busy = await app.admin.processes(), await app.admin.busy()
        if reach.as_json:
            to.show_json(
                {
                    "processes": [to.process_document(process) for process in found],
                    "busy": [to.busy_document(row) for row in busy],
                }
            )
        elif found:
            to.show(_processes(found) + ("\n\n" + _running(busy) if busy else ""))
        else:
            to.show("no processes")
        return 0

    return reach.run(ask)


def _processes(found: list[Process]) -> str:
    now = SystemClock().now()
    heads = ("process", "busy", "limit", "queues", "quiet", "up", "heard", "memory MB")
    rows = [
        (
            one.ident, one.busy, one.concurrency, " ".join(one.queues), one.quiet,
            to.span(one.started_at and now - one.started_at),
            to.span(one.beat_at and now - one.beat_at), one.rss_kb // 1024,
        )
        for one in found
    ]  # fmt: skip
    return to.table(heads, rows)


def _running(busy: list[RunningJob]) -> str:
    now = SystemClock().now()
    heads = ("jid", "class", "args", "queue", "for", "process")
    rows = [
        (
            row.job.jid if row.job else "", row.job.class_ if row.job else "", to.arguments(row),
            row.queue, to.span(row.run_at and now - row.run_at), row.ident,
        )
        for row in busy[:_BUSY_SHOWN]
    ]  # fmt: skip
    more = len(busy) - len(rows)
    return to.table(heads, rows) + (f"\nand {more:,} more" if more else "")

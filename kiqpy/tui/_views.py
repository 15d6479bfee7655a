"""What each tab shows and what its keys do, without a terminal: rows in, a sentence out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NamedTuple

from kiqpy.admin import Admin, BulkResult, JobRow
from kiqpy.admin._text import duration_text
from kiqpy.clock import SystemClock

PER_PAGE: Final = 25
_clock: Final = SystemClock()
_MAX_ARGS_SHOWN: Final = 60
_MAX_RUNNING_SHOWN: Final = 1000


class Line(NamedTuple):
    """A row of a table. `key` stays the same as long as it is about the same thing."""

    key: str
    cells: tuple[str, ...]
    about: Any  # what the view's actions take


class Screenful(NamedTuple):
    """A page of lines. `total`: of the whole list; None if it is not known."""

    lines: Sequence[Line]
    pages: int = 1
    total: int | None = None


class KeyAction(NamedTuple):
    """What a capital letter does to the chosen lines; the answer is a sentence for the user."""

    text: str
    run: Callable[[Admin, Sequence[Any]], Awaitable[str]]


class View(ABC):
    """One tab."""

    title: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    actions: ClassVar[Mapping[str, KeyAction]] = {}

    @abstractmethod
    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        """A page, from 1, of what holds `text` in any cell; raises StoreError."""

    def details(self, line: Line) -> str:
        """All about a line."""
        pairs = zip(self.heads, line.cells, strict=True)
        return "\n".join(f"{head}: {cell}" for head, cell in pairs)


def _filtered(lines: Sequence[Line], text: str) -> list[Line]:
    return [line for line in lines if any(text in cell for cell in line.cells)]


def _paged(lines: Sequence[Line], page: int, text: str) -> Screenful:
    found = _filtered(lines, text)
    pages = max(1, -(-len(found) // PER_PAGE))
    first = (min(page, pages) - 1) * PER_PAGE
    return Screenful(found[first : first + PER_PAGE], pages, len(found))


def _instant(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _args(row: JobRow) -> str:
    text = json.dumps(row.args, default=repr)
    return text if len(text) <= _MAX_ARGS_SHOWN else f"{text[:_MAX_ARGS_SHOWN]}..."


def _said(verb: str, result: BulkResult) -> str:
    gone = f", {result.gone} gone meanwhile" if result.gone else ""
    unreadable = f", {result.unreadable} unreadable" if result.unreadable else ""
    return f"{result.done} {verb}{gone}{unreadable}"


class Home(View):
    """Totals and the last days."""

    title = "Home"
    heads = ("what", "jobs")

    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        stats = await admin.stats(7)
        names = ("processed", "failed", "busy", "enqueued", "scheduled", "retry", "dead")
        lines = [Line(name, (name, f"{getattr(stats, name):,}"), None) for name in names]
        lines.append(Line("processes", ("processes", f"{stats.processes:,}"), None))
        for day in stats.days:
            counts = f"{day.processed:,} processed, {day.failed:,} failed"
            lines.append(Line(day.date, (day.date, counts), None))
        return _paged(lines, page, text)


async def _cancel(admin: Admin, rows: Sequence[JobRow]) -> str:
    for row in rows:
        await admin.cancel(row.jid)
    return f"{len(rows)} told to end"


class Busy(View):
    """Jobs that run."""

    title = "Busy"
    heads = ("process", "queue", "job", "jid", "args", "for")
    actions = {"C": KeyAction("cancel", _cancel)}

    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        now = _clock.now()
        lines: list[Line] = []
        for run in await admin.busy(most=_MAX_RUNNING_SHOWN):
            row = JobRow("running", run.job, run.raw, run.run_at)
            age = "-" if run.run_at is None else duration_text(now - run.run_at)
            cells = (run.ident, run.queue, row.class_, row.jid, _args(row), age)
            lines.append(Line(f"{run.ident} {row.jid}", cells, row))
        return _paged(lines, page, text)

    def details(self, line: Line) -> str:
        return _job_details(line.about)


async def _pause(admin: Admin, names: Sequence[str]) -> str:
    paused = set(await admin.paused())
    for name in names:
        await (admin.resume(name) if name in paused else admin.pause(name))
    return f"{len(names)} paused or resumed"


async def _clear(admin: Admin, names: Sequence[str]) -> str:
    dropped = [await admin.clear(f"queue:{name}") for name in names]
    return f"{sum(dropped):,} jobs deleted"


class Queues(View):
    """Queues, and how long their oldest job has waited."""

    title = "Queues"
    heads = ("queue", "size", "latency", "paused")
    actions = {"P": KeyAction("pause or resume", _pause), "D": KeyAction("delete its jobs", _clear)}

    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        lines: list[Line] = []
        for row in await admin.queues():
            latency = "-" if row.latency_s is None else duration_text(row.latency_s)
            cells = (row.name, f"{row.size:,}", latency, "paused" if row.paused else "")
            lines.append(Line(row.name, cells, row.name))
        return _paged(lines, page, text)


async def _run_now(admin: Admin, rows: Sequence[JobRow]) -> str:
    return _said("put into their queues", await admin.requeue(rows))


async def _kill(admin: Admin, rows: Sequence[JobRow]) -> str:
    return _said("killed", await admin.kill(rows))


async def _delete(admin: Admin, rows: Sequence[JobRow]) -> str:
    return _said("deleted", await admin.delete(rows))


class JobSet(View):
    """Jobs of a set, with what failed last."""

    heads = ("at", "queue", "job", "jid", "args", "error")
    place: ClassVar[str]

    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        if text:
            found = await admin.search(self.place, text, limit=PER_PAGE)
            return Screenful([self._line(row) for row in found.rows])
        shown = await admin.jobs(self.place, page=page, per=PER_PAGE)
        return Screenful([self._line(row) for row in shown.rows], shown.pages, shown.total)

    def _line(self, row: JobRow) -> Line:
        error = f"{row.error_class}: {row.error_message}" if row.error_class else ""
        cells = (_instant(row.at), row.queue, row.class_, row.jid, _args(row), error)
        return Line(Admin.token(row), cells, row)

    def details(self, line: Line) -> str:
        return _job_details(line.about)


def _job_details(row: JobRow) -> str:
    stack = "\n".join(row.error_backtrace)
    text = row.raw.decode(errors="replace")
    try:
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        pass
    return f"{text}\n\n{stack}" if stack else text


class Scheduled(JobSet):
    """Jobs that are due later."""

    title = "Scheduled"
    place = "scheduled"
    actions = {"R": KeyAction("run now", _run_now), "D": KeyAction("delete", _delete)}


class Retries(JobSet):
    """Failed jobs that wait for their next attempt."""

    title = "Retries"
    place = "retry"
    actions = {
        "R": KeyAction("run now", _run_now),
        "K": KeyAction("kill", _kill),
        "D": KeyAction("delete", _delete),
    }


class Dead(JobSet):
    """Jobs that are not tried again."""

    title = "Dead"
    place = "dead"
    actions = {"R": KeyAction("run again", _run_now), "D": KeyAction("delete", _delete)}


async def _quiet(admin: Admin, idents: Sequence[str]) -> str:
    quiet = {process.ident for process in await admin.processes() if process.quiet}
    for ident in idents:
        await admin.quiet_process(ident, ident not in quiet)
    return f"{len(idents)} told to be quiet, or to go on"


async def _stop(admin: Admin, idents: Sequence[str]) -> str:
    for ident in idents:
        await admin.stop_process(ident)
    return f"{len(idents)} told to stop"


class Processes(View):
    """Live processes."""

    title = "Processes"
    heads = ("process", "queues", "busy", "of", "quiet", "RSS MB", "since")
    actions = {"Q": KeyAction("quiet, or go on", _quiet), "S": KeyAction("stop", _stop)}

    async def load(self, admin: Admin, page: int, text: str) -> Screenful:
        lines: list[Line] = []
        for process in await admin.processes():
            cells = (
                process.ident,
                " ".join(process.queues),
                str(process.busy),
                str(process.concurrency),
                "quiet" if process.quiet else "",
                f"{process.rss_kb / 1024:.0f}",
                _instant(process.started_at),
            )
            lines.append(Line(process.ident, cells, process.ident))
        return _paged(lines, page, text)


VIEWS: Final[tuple[type[View], ...]] = (Home, Busy, Queues, Scheduled, Retries, Dead, Processes)

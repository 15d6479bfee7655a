"""The pages. Each reads a bounded part of the store, however large it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from kiqpy._runtime.periodics import PeriodicRow
from kiqpy.admin import Field, Process, QueueRow
from kiqpy.periodic import Periodic
from kiqpy.web import _format as to
from kiqpy.web._actions import Button, actions_of
from kiqpy.web._graph import HEIGHT, WIDTH, day_bars, rate_lines
from kiqpy.web._guard import Refused
from kiqpy.web._links import place_link
from kiqpy.web._query import FIELDS, Query
from kiqpy.web._rows import Detail, JobView, running_row
from kiqpy.web._site import Site

T = TypeVar("T")
_MAX_SEARCHED: Final = 25_000  # entries that one page looks at: some 50 ms
_MAX_FOUND: Final = 100
_MAX_LOOKED_FOR_JID: Final = 100_000
_MAX_RUNNING: Final = 1000
_MAX_QUEUES_SHOWN: Final = 15  # on the overview
_TICKS_SHOWN: Final = 10
_MAX_PERIODICS: Final = 500


class Listing(NamedTuple):
    """A page of jobs: of all that are there, or (`searched` is not None) of those that match."""

    place: str
    jobs: Sequence[JobView]
    total: int
    page: int
    pages: int
    actions: Sequence[Button]
    searched: int | None = None
    more: str = ""  # where the search goes on


class PeriodicView(NamedTuple):
    """A periodic and its next ticks."""

    row: PeriodicRow
    ticks: Sequence[float]


async def overview(site: Site, request: Request) -> Response:
    """The overview: totals, current rates, counts by day, and queues that need attention."""
    query = Query.of(request)
    await site.numbers.latest()  # at least one more point of the live graph
    stats = await site.admin.stats(query.days)
    queues = await site.admin.queues()
    tallies = {tally.queue: tally for tally in stats.queues}
    worst = sorted(queues, key=lambda queue: (-queue.size, queue.name))[:_MAX_QUEUES_SHOWN]
    return await site.render(
        request,
        "overview.html",
        totals=stats,
        queues=[(queue, tallies.get(queue.name)) for queue in worst],
        queue_count=len(queues),
        live=rate_lines(site.numbers.rates()),
        days=day_bars(stats.days),
        width=WIDTH,
        height=HEIGHT,
    )


async def queues(site: Site, request: Request) -> Response:
    """All queues, a page of them."""
    query = Query.of(request)
    found = [q for q in await site.admin.queues() if query.text in q.name]
    shown, pages = _slice(found, query)
    return await site.render(
        request, "queues.html", queues=shown, total=len(found), pages=pages, page=query.page
    )


async def queue(site: Site, request: Request) -> Response:
    """The jobs of one queue."""
    name = request.query_params.get("name", "")
    listing = await _listing(site, request, f"queue:{name}")
    known = [each for each in await site.admin.queues() if each.name == name]
    found = known[0] if known else QueueRow(name, 0, 0.0, paused=False)
    return await site.render(request, "queue.html", queue=found, listing=listing)


async def scheduled(site: Site, request: Request) -> Response:
    """The scheduled jobs."""
    return await _set_page(site, request, "scheduled")


async def retries(site: Site, request: Request) -> Response:
    """The failed jobs that are retried."""
    return await _set_page(site, request, "retry")


async def dead(site: Site, request: Request) -> Response:
    """The dead jobs."""
    return await _set_page(site, request, "dead")


async def _set_page(site: Site, request: Request, place: str) -> Response:
    return await site.render(
        request, "set.html", listing=await _listing(site, request, place), place=place
    )


async def _listing(site: Site, request: Request, place: str) -> Listing:
    query = Query.of(request)
    if query.text:
        return await _matching(site, query, place)
    page = await site.admin.jobs(place, page=query.page, per=query.per, newest=query.newest)
    return Listing(
        place=place,
        jobs=[site.views.line(row) for row in page.rows],
        total=page.total,
        page=page.number,
        pages=page.pages,
        actions=actions_of(place),
    )


async def _matching(site: Site, query: Query, place: str) -> Listing:
    found = await site.admin.search(
        place,
        query.text,
        fields=searched_fields(site, query.field),
        cursor=query.cursor,
        limit=_MAX_FOUND,
        most=_MAX_SEARCHED,
    )
    newest_first = place == "dead" if query.newest is None else query.newest
    rows = sorted(found.rows, key=lambda row: row.at or 0.0, reverse=newest_first)
    return Listing(
        place=place,
        jobs=[site.views.line(row) for row in rows],
        total=await site.admin.size(place),
        page=1,
        pages=1,
        actions=actions_of(place),
        searched=found.searched,
        more=_further(query, place, found.cursor),
    )


def _further(query: Query, place: str, cursor: str | None) -> str:
    if cursor is None:
        return ""
    return place_link(place, text=query.text, field=query.field, cursor=cursor)


def searched_fields(site: Site, field: str) -> Sequence[Field]:
    """Where a search looks; () is everywhere. Arguments that are hidden can't be guessed at."""
    if field in FIELDS and not (field == "args" and site.views.redacts):
        return [FIELDS[field]]
    return [each for each in FIELDS.values() if each != "args"] if site.views.redacts else []


async def running(site: Site, request: Request) -> Response:
    """The running jobs, as processes reported them at their last heartbeats."""
    query = Query.of(request)
    busy = await site.admin.busy(most=_MAX_RUNNING)
    lines = [site.views.running(job) for job in busy]
    found = [line for line in lines if _holds(line, query.text)]
    shown, pages = _slice(found, query)
    listing = Listing("running", shown, len(found), query.page, pages, actions_of("running"))
    return await site.render(request, "running.html", listing=listing, most=_MAX_RUNNING)


def _holds(line: JobView, text: str) -> bool:
    parts = (line.jid, line.class_, line.queue, line.process, line.args, *line.tags)
    return any(text in part for part in parts)


async def processes(site: Site, request: Request) -> Response:
    """The live processes."""
    query = Query.of(request)
    found = [process for process in await site.admin.processes() if _names(process, query.text)]
    shown, pages = _slice(found, query)
    return await site.render(
        request, "processes.html", processes=shown, total=len(found), pages=pages, page=query.page
    )


def _names(process: Process, text: str) -> bool:
    return any(text in part for part in (process.ident, process.tag, *process.labels))


async def periodic(site: Site, request: Request) -> Response:
    """The periodic jobs and their next ticks."""
    entries = {entry.name: entry for entry in site.app.config.periodics}
    rows = await site.app.cron() if entries else []
    views = [_periodic(row, entries[row.name]) for row in rows[:_MAX_PERIODICS]]
    return await site.render(request, "periodic.html", periodics=views)


def _periodic(row: PeriodicRow, entry: Periodic) -> PeriodicView:
    ticks, at = list[float](), row.next_at
    while at is not None and len(ticks) < _TICKS_SHOWN:
        ticks.append(at)
        at = entry.next(at)
    return PeriodicView(row, ticks)


async def job(site: Site, request: Request) -> Response:
    """Everything about one job."""
    given = request.query_params
    place, token, jid = given.get("place", ""), given.get("row", ""), given.get("jid", "")
    if token and place:
        found = await _located(site, place, token)
    else:
        found = await _found(site, jid.strip(), place)
    if found is None:
        raise Refused(404, _NOT_THERE)
    return await site.render(
        request,
        "job.html",
        detail=found,
        back=place_link(found.place),
        actions=actions_of(found.place),
        trace=_trace(site, found.trace_id),
    )


_NOT_THERE: Final = (
    "This job isn't there any more: it was run, moved or deleted since the page was made that "
    "led here. To look for it everywhere, put its jid into the field at the top."
)


async def _located(site: Site, place: str, token: str) -> Detail | None:
    rows = await site.admin.locate(place, [token], most=_MAX_LOOKED_FOR_JID)
    return site.views.detail(rows[0]) if rows else None


async def _found(site: Site, jid: str, place: str) -> Detail | None:
    if not jid:
        raise Refused(400, "Which job? Put its jid into the field at the top.")
    busy = await site.admin.busy(most=_MAX_RUNNING)
    for one in busy:
        if one.job is not None and one.job.jid == jid:
            return site.views.detail(running_row(one), one.ident)
    if place == "running":
        return None
    found = await site.admin.find(jid, most=_MAX_LOOKED_FOR_JID)
    if found.row is None and not found.complete:
        raise Refused(
            404,
            f"No job {to.clip(jid, 60)} among the first {found.searched:,} entries; there are "
            "more. Search the list in which you expect it.",
        )
    return site.views.detail(found.row) if found.row else None


def _trace(site: Site, trace_id: str) -> str:
    url = site.options.trace_url
    return url.replace("{trace_id}", trace_id) if url and trace_id else ""


def _slice(found: Sequence[T], query: Query) -> tuple[Sequence[T], int]:
    start = (query.page - 1) * query.per
    return found[start : start + query.per], max(1, -(-len(found) // query.per))

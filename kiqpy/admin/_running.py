"""Finds jobs that run: as their processes reported them, or as kiqpy's processes hold them now."""

from __future__ import annotations

from kiqpy.store.census import Census, RunningJob


async def reported(census: Census, queue: str | None, most: int) -> list[RunningJob]:
    """What processes reported at their last heartbeats, of one queue or of all; longest first."""
    found: list[RunningJob] = []
    for process in await census.processes():
        if process.busy and len(found) < most:
            rows = await census.busy([process.ident])
            found += [row for row in rows if queue in (None, row.queue)]
    return sorted(found, key=lambda row: row.run_at or 0.0)[:most]


async def runs_of(census: Census, jid: str, most: int = 10_000) -> list[RunningJob]:
    """The runs of a job: as kiqpy's processes hold it now, else as its process reported it.

    A heartbeat does not have a job that began after it, and of a large one only the head.
    """
    known = {row.ident: row for row in await reported(census, None, most) if _is(row, jid)}
    held = {row.ident: row for row in await census.claimed([jid]) if _is(row, jid)}
    return [
        row if ident not in known else row._replace(run_at=known[ident].run_at)
        for ident, row in (known | held).items()
    ]


def _is(row: RunningJob, jid: str) -> bool:
    return row.job is not None and row.job.jid == jid

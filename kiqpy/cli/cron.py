"""`kiqpy cron`: the periodic jobs of an app, switched on and off, and run at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from kiqpy._runtime.periodics import PeriodicRow, Periodics
from kiqpy.app import App
from kiqpy.cli._find import find

_HEADS = ("name", "when", "zone", "worker", "queue", "next", "last")


@click.command(short_help="list an app's periodic jobs, switch them, run one now")
@click.argument("app", required=False, envvar="KIQPY_APP", metavar="[MODULE:APP]")
@click.option("--json", "as_json", is_flag=True, help="For programs; instants in epoch seconds.")
@click.option("--enable", metavar="NAME", help="Have ticks again, from now on.")
@click.option("--disable", metavar="NAME", help="No more ticks, in any process.")
@click.option("--run", "run_now", metavar="NAME", help="Enqueue one job of it now.")
@click.option(
    "--redis",
    envvar="KIQPY_REDIS_URL",
    metavar="URL",
    show_envvar=True,
    help="Where Redis or Valkey is; before what the app says.",
)
def cron(
    app: str | None,
    as_json: bool,
    enable: str | None,
    disable: str | None,
    run_now: str | None,
    redis: str | None,
) -> None:
    """The periodic jobs of an app: MODULE:APP, or MODULE if it holds one app.

    Without an argument it is [tool.kiqpy] app = "..." of pyproject.toml.
    """
    given = [name for name in (enable, disable, run_now) if name is not None]
    if len(given) > 1:
        raise click.UsageError("one of --enable, --disable and --run at a time")
    found = find(app, Path.cwd())
    if redis is not None:
        found.override(redis_url=redis)
    what = _act(enable, disable, run_now)
    rows, said = asyncio.run(_talk(found, what))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif said:
        click.echo(said)
    else:
        click.echo("\n".join(_table(rows)) if rows else f"{found.name} declares no periodics")


Act = Callable[[Periodics], Awaitable[str]]


async def _talk(app: App, act: Act) -> tuple[list[PeriodicRow], str]:
    async with app.client_only():
        periodics: Periodics = app.periodics
        said = await act(periodics)
        return await periodics(), said


def _act(enable: str | None, disable: str | None, run_now: str | None) -> Act:
    async def act(periodics: Periodics) -> str:
        if enable is not None:
            changed = await periodics.enable(enable)
            return f"{enable}: enabled" if changed else f"{enable}: was enabled already"
        if disable is not None:
            changed = await periodics.disable(disable)
            return f"{disable}: disabled" if changed else f"{disable}: was disabled already"
        if run_now is not None:
            receipt = await periodics.run_now(run_now)
            return f"{run_now}: {receipt.state}, jid {receipt.jid}"
        return ""

    return act


def _table(rows: Sequence[PeriodicRow]) -> list[str]:
    cells = [_HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEADS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cells(row: PeriodicRow) -> tuple[str, ...]:
    following = _shown(row.next_at, row.tz) if row.enabled else "disabled"
    return row.name, row.cron, row.tz, row.worker, row.queue, following, _shown(row.last_at, row.tz)


def _shown(at: float | None, zone: str) -> str:
    """On the wall of the entry's own zone."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat(" ", "seconds")

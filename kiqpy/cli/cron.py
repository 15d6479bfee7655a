"""`kiqpy cron`: lists, enables, disables and runs the periodic jobs of an app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import click

from kiqpy._runtime.periodics import PeriodicRow, Periodics
from kiqpy.app import App
from kiqpy.cli import _output as output
from kiqpy.cli._load_app import load_app

_HEADS = ("name", "when", "zone", "worker", "queue", "next", "last")
_MAX_NAME: Final = 500  # a name that is cut could not be copied to --enable
PeriodicAction = Callable[[Periodics], Awaitable[str]]


@click.command(short_help="list, enable, disable or run periodic jobs")
@click.argument("app", required=False, envvar="KIQPY_APP", metavar="[MODULE:APP]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; times in epoch seconds."
)
@click.option(
    "--enable", metavar="NAME", help="Enqueue the jobs of this entry again, from its next tick on."
)
@click.option(
    "--disable", metavar="NAME", help="Stop enqueueing jobs of this entry, in all processes."
)
@click.option("--run", "run_now", metavar="NAME", help="Enqueue one job of this entry now.")
@click.option(
    "--redis",
    envvar="KIQPY_REDIS_URL",
    metavar="URL",
    show_envvar=True,
    help="The URL of Redis or Valkey; overrides the app's.",
)
def cron(
    app: str | None,
    as_json: bool,
    enable: str | None,
    disable: str | None,
    run_now: str | None,
    redis: str | None,
) -> None:
    """List the periodic jobs of an app, or enable, disable or run one of them.

    The app is MODULE:APP, or MODULE if the module holds one app. Without an argument it is the
    app in pyproject.toml: [tool.kiqpy] app = "MODULE:APP".
    """
    given = [name for name in (enable, disable, run_now) if name is not None]
    if len(given) > 1:
        raise click.UsageError("use only one of --enable, --disable and --run")
    found = load_app(app, Path.cwd())
    if redis is not None:
        found.override(redis_url=redis)
    rows, message = asyncio.run(_run(found, _action(enable, disable, run_now)))
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
    elif message:
        click.echo(message)
    elif rows:
        click.echo(output.table(_HEADS, [_cells(row) for row in rows], max_width=_MAX_NAME))
    else:
        click.echo(f"{found.name} declares no periodics")


async def _run(app: App, action: PeriodicAction) -> tuple[list[PeriodicRow], str]:
    async with app.client_only():
        message = await action(app.cron)
        return await app.cron(), message


def _action(enable: str | None, disable: str | None, run_now: str | None) -> PeriodicAction:
    async def action(periodics: Periodics) -> str:
        if enable is not None:
            changed = await periodics.enable(enable)
            return f"{enable}: enabled" if changed else f"{enable}: was already enabled"
        if disable is not None:
            changed = await periodics.disable(disable)
            return f"{disable}: disabled" if changed else f"{disable}: was already disabled"
        if run_now is not None:
            receipt = await periodics.run_now(run_now)
            return f"{run_now}: {receipt.state}, jid {receipt.jid}"
        return ""

    return action


def _cells(row: PeriodicRow) -> tuple[str, ...]:
    following = _shown(row.next_at, row.tz) if row.enabled else "disabled"
    return row.name, row.cron, row.tz, row.worker, row.queue, following, _shown(row.last_at, row.tz)


def _shown(at: float | None, zone: str) -> str:
    """The local time in the entry's own zone."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat(" ", "seconds")

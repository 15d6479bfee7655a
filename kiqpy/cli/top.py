"""`kiqpy top`: jobs, queues and processes, live in the terminal."""

from __future__ import annotations

import sys

import click

from kiqpy.app import App
from kiqpy.cli._target import Target, with_location
from kiqpy.errors import ConfigError


@click.command(short_help="jobs, queues and processes, live in the terminal")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Read anew that often.",
)
@click.option("--read-only", is_flag=True, help="Show everything, change nothing.")
@with_location
def top(target: Target, interval: float, read_only: bool) -> int:
    """Show what runs, waits and failed, until q is pressed; ? shows the keys.

    Capitals change things: R runs a job now, K kills, D deletes, C cancels, P pauses a queue, Q
    quiets a process, S stops it.
    """
    try:
        from kiqpy.tui import Top
    except ImportError as error:
        raise ConfigError(f"{error}; pip install 'kiqpy[tui]'") from error
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("kiqpy top needs a terminal; kiqpy stats and kiqpy jobs print once")

    async def show(app: App) -> int:
        await Top(app.admin, interval_s=interval, read_only=read_only).run_async()
        return 0

    return target.run(show)

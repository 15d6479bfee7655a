"""`kiqpy run module:app`: options, then the service."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from kiqpy.app import App
from kiqpy.cli import _logs
from kiqpy.cli._find import find
from kiqpy.cli._leave import Leaving
from kiqpy.cli._serve import Service
from kiqpy.cli.fleet import start as fleet
from kiqpy.errors import ConfigError

LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None


@click.command(short_help="run an app's jobs until it is told to stop")
@click.argument("app", required=False, envvar="KIQPY_APP", metavar="[MODULE:APP]")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    envvar="KIQPY_QUEUES",
    metavar="NAME[:N]",
    show_envvar=True,
    help="Only this queue, N jobs at a time. Repeatable.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    envvar="KIQPY_CONCURRENCY",
    show_envvar=True,
    metavar="N",
    help="Jobs at a time: of each -q without a number, or of each queue of the app.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    envvar="KIQPY_PROCESSES",
    show_envvar=True,
    show_default=True,
    metavar="N",
    help="So many processes, each with all these queues and limits, under a supervisor.",
)
@click.option(
    "--max-memory",
    type=click.FloatRange(min=1),
    envvar="KIQPY_MAX_MEMORY",
    show_envvar=True,
    metavar="MB",
    help="Replace a process that has more than this, one at a time.",
)
@click.option(
    "--redis",
    envvar="KIQPY_REDIS_URL",
    metavar="URL",
    show_envvar=True,
    help="Where Redis or Valkey is; before what the app says.",
)
@click.option(
    "--shutdown-timeout",
    type=float,
    envvar="KIQPY_SHUTDOWN_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="What running jobs get at a stop.  [default: 25]",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    envvar="KIQPY_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="auto: for people on a terminal, else JSON.",
)
@click.option(
    "--log-level",
    type=click.Choice(_logs.LEVELS, case_sensitive=False),
    default="info",
    envvar="KIQPY_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
)
@click.option(
    "--uvloop",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    envvar="KIQPY_UVLOOP",
    show_envvar=True,
    show_default=True,
    help="The faster event loop; auto: if it is installed.",
)
@click.pass_context
def run(
    context: click.Context,
    app: str | None,
    queues: tuple[str, ...],
    concurrency: int | None,
    processes: int,
    max_memory: float | None,
    redis: str | None,
    shutdown_timeout: float | None,
    log_format: str,
    log_level: str,
    uvloop: str,
) -> int:
    """Run the jobs of an app: MODULE:APP, or MODULE if it holds one app.

    Without an argument it is [tool.kiqpy] app = "..." of pyproject.toml.

    Signals: TERM or INT stops in --shutdown-timeout seconds, a second one now; TSTP claims no
    more jobs; TTIN writes tasks and stacks to stderr; USR2, where there are several processes,
    replaces them one at a time.
    """
    tether = fleet.Tether.held()
    if tether is None and fleet.check(processes, max_memory):
        fleet.become_supervisor(context, processes, max_memory)
    if tether is not None:
        context.call_on_close(tether.close)
    _logs.configure(log_level, log_format, sys.stderr)
    factory = _loop_factory(uvloop)
    found = find(app, Path.cwd())
    changes: dict[str, Any] = {"redis_url": redis, "shutdown_timeout": shutdown_timeout}
    changes["queues"] = chosen(found, queues, concurrency)
    changes["groups"] = () if queues else None  # what is not named is not run
    found.override(**{name: value for name, value in changes.items() if value is not None})
    return _serve(found, factory, tether)


def chosen(app: App, given: tuple[str, ...], concurrency: int | None) -> dict[str, int] | None:
    """The queues to run with their limits; None: as the app says."""
    if not app.config.server:
        raise ConfigError(f"{app.name} has server=False: it only enqueues, there is nothing to run")
    if not given:
        return None if concurrency is None else dict.fromkeys(app.config.queues, concurrency)
    queues: dict[str, int] = {}
    for text in given:
        name, _, number = text.rpartition(":")
        if name and number.isdecimal():
            queues[name] = int(number)
        else:
            queues[text] = concurrency or app.config.queues.get(text, 25)
    return queues


def _loop_factory(uvloop: str) -> LoopFactory:
    found = uvloop != "off" and importlib.util.find_spec("uvloop") is not None
    if uvloop == "on" and not found:
        raise ConfigError('--uvloop on: it is not installed; pip install "kiqpy[fast]"')
    if not found:
        return None
    return cast("LoopFactory", importlib.import_module("uvloop").new_event_loop)


def _serve(app: App, factory: LoopFactory, tether: fleet.Tether | None) -> int:
    """Run the service in a loop of its own; the process ends, whatever jobs left behind."""
    leaving = Leaving()
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            code = runner.run(Service(app, fast=factory is not None, tether=tether).run())
        finally:
            leaving.begin()
    leaving.done()
    return code

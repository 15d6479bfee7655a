"""`kiqpy run MODULE:APP`: its options, and the start of the service."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import click

from kiqpy.app import App
from kiqpy.cli import _logs
from kiqpy.cli._exit_watchdog import ExitWatchdog
from kiqpy.cli._load_app import load_app
from kiqpy.cli._main_task import run_to_the_end
from kiqpy.cli._probes import ProcessProbes, address_given, listen
from kiqpy.cli._serve import Foreground
from kiqpy.cli.fleet import start as fleet
from kiqpy.cli.fleet.link import SupervisorLink
from kiqpy.cli.fleet.questions import answer_questions
from kiqpy.errors import ConfigError

_shown = partial(click.option, show_envvar=True, show_default=True)
LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None


@click.command(short_help="run the jobs of an app until stopped")
@click.argument("app", required=False, envvar="KIQPY_APP", metavar="[MODULE:APP]")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    envvar="KIQPY_QUEUES",
    metavar="NAME[:N]",
    show_envvar=True,
    help="Run only this queue, N jobs at a time. Repeatable.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    envvar="KIQPY_CONCURRENCY",
    show_envvar=True,
    metavar="N",
    help="Jobs at a time, for each -q without N; without -q, for each queue of the app.",
)
@_shown(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    envvar="KIQPY_PROCESSES",
    metavar="N",
    help="Run N processes under a supervisor, each with all these queues and limits.",
)
@click.option(
    "--max-memory",
    type=click.FloatRange(min=1),
    envvar="KIQPY_MAX_MEMORY",
    show_envvar=True,
    metavar="MB",
    help="Replace a process that uses more memory than this, one at a time.",
)
@click.option(
    "--health-port",
    envvar="KIQPY_HEALTH_PORT",
    metavar="[HOST:]PORT",
    show_envvar=True,
    help="Answer /live and /ready there, for all processes; without HOST on all addresses.",
)
@click.option(
    "--redis",
    envvar="KIQPY_REDIS_URL",
    metavar="URL",
    show_envvar=True,
    help="The URL of Redis or Valkey; overrides the app's.",
)
@click.option(
    "--shutdown-timeout",
    type=float,
    envvar="KIQPY_SHUTDOWN_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="Time for running jobs to finish at a stop.  [default: the app's, 25]",
)
@_shown(
    "--log-format",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    envvar="KIQPY_LOG_FORMAT",
    help="auto: console on a terminal, else json.",
)
@_shown(
    "--log-level",
    type=click.Choice(_logs.LEVELS, case_sensitive=False),
    default="info",
    envvar="KIQPY_LOG_LEVEL",
    help="Write log lines of this level and above.",
)
@_shown(
    "--uvloop",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    envvar="KIQPY_UVLOOP",
    help="Use the faster event loop; auto: if it is installed.",
)
@_shown(
    "--gc",
    "collector",
    type=click.Choice(["auto", "off"]),
    default="auto",
    envvar="KIQPY_GC",
    help="auto: collect garbage less often, unless the app has set thresholds; off: as Python.",
)
@click.pass_context
def run(
    context: click.Context,
    app: str | None,
    queues: tuple[str, ...],
    concurrency: int | None,
    processes: int,
    max_memory: float | None,
    health_port: str | None,
    redis: str | None,
    shutdown_timeout: float | None,
    log_format: str,
    log_level: str,
    uvloop: str,
    collector: str,
) -> int:
    """Run the jobs of an app until it is stopped.

    The app is MODULE:APP, or MODULE if the module holds one app. Without an argument it is the
    app in pyproject.toml: [tool.kiqpy] app = "MODULE:APP".

    Signals: TERM or INT stops the app and gives running jobs --shutdown-timeout seconds; a second
    one stops it now. TSTP stops claiming jobs. TTIN writes tasks and stacks to stderr. USR2
    replaces the processes one at a time, if there are several.
    """
    link, health = SupervisorLink.inherited(), address_given("--health-port", health_port)
    if link is None and fleet.check(processes, max_memory):
        fleet.become_supervisor(context, processes, max_memory, health)
    if link is not None:
        context.call_on_close(link.close)
    _logs.configure(log_level, log_format, sys.stderr)
    factory = _loop_factory(uvloop)
    found = load_app(app, Path.cwd())
    changes: dict[str, Any] = {"redis_url": redis, "shutdown_timeout": shutdown_timeout}
    changes["queues"] = chosen(found, queues, concurrency)
    changes["groups"] = () if queues else None  # queues that are not named do not run
    found.override(**{name: value for name, value in changes.items() if value is not None})
    probes = ProcessProbes(found)
    answer_questions(probes.answer)
    if health is not None and link is None:  # else the supervisor asks
        context.call_on_close(listen(health, probes).stop)
    return _serve(found, factory, link, probes, tune_gc=collector == "auto")


def chosen(app: App, given: tuple[str, ...], concurrency: int | None) -> dict[str, int] | None:
    """The queues to run and their limits; None: those of the app."""
    if not app.config.server:
        raise ConfigError(
            f"{app.name} has server=False, so it only enqueues: remove server=False to run jobs"
        )
    if not given:
        return None if concurrency is None else dict.fromkeys(app.config.queues, concurrency)
    queues: dict[str, int] = {}
    for text in given:
        name, _, number = text.rpartition(":")
        if name and number.isdecimal():
            queues[name] = int(number)
        elif name and text not in app.config.all_queues():
            raise ConfigError(f"-q {text}: {number!r} is no number of jobs, as in -q {name}:5")
        else:
            queues[text] = concurrency or app.config.queues.get(text, 25)
    return queues


def _loop_factory(uvloop: str) -> LoopFactory:
    found = uvloop != "off" and importlib.util.find_spec("uvloop") is not None
    if uvloop == "on" and not found:
        raise ConfigError('--uvloop on: uvloop is not installed; pip install "kiqpy[fast]"')
    if not found:
        return None
    return cast("LoopFactory", importlib.import_module("uvloop").new_event_loop)


def _serve(
    app: App,
    factory: LoopFactory,
    link: SupervisorLink | None,
    probes: ProcessProbes,
    *,
    tune_gc: bool,
) -> int:
    """Run the service in its own event loop; the process then ends, even if threads still run."""
    watchdog = ExitWatchdog()
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            probes.watch(runner.get_loop())
            service = Foreground(app, fast=factory is not None, link=link, tune_gc=tune_gc)
            code = run_to_the_end(runner.get_loop(), service.run(), service.told_to_exit)
        finally:
            watchdog.start()
    watchdog.loop_closed()
    return code

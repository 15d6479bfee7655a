"""`kiqpy demo`: parses a Python library with jobs on a private server; survives `kill -9`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import sqlite3
import sys
from collections.abc import Generator
from pathlib import Path

import click

from kiqpy.cli import _logs
from kiqpy.cli._screen import say
from kiqpy.clock import SystemClock
from kiqpy.demo import report as demo_report
from kiqpy.demo.files import python_files
from kiqpy.demo.results import DemoRun, Results
from kiqpy.demo.run import Demo, StartResult
from kiqpy.errors import ConfigError
from kiqpy.store.embedded import directory as server_directory
from kiqpy.store.embedded.server import EmbeddedServer

if sys.platform != "win32":
    import fcntl

_EXIT_INTERRUPTED = 130


@click.command(short_help="parse this machine's Python library as jobs")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(".kiqpy"),
    envvar="KIQPY_DEMO_DIR",
    show_envvar=True,
    show_default=True,
    help="The folder of the demo's server, results and log.",
)
@click.option(
    "--redis",
    metavar="URL",
    envvar="KIQPY_DEMO_REDIS_URL",
    show_envvar=True,
    help="Use this server instead of a private one.",
)
@click.option(
    "--files",
    type=click.IntRange(min=1),
    metavar="N",
    envvar="KIQPY_DEMO_FILES",
    show_envvar=True,
    help="Parse only N files.",
)
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Parse the Python files below DIR instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def demo(
    directory: Path, redis: str | None, files: int | None, source: Path | None, as_json: bool
) -> int:
    """Parse every file of this Python's library: one job for each, in two child processes.

    Stop it with ctrl-c, or kill -9 it: the next start continues the run.
    """
    directory = directory.absolute()
    server_directory.prepare(directory)
    with _locked(directory), _results(directory) as results:
        run, fresh = _run(results, source, files)
        with (directory / "demo.log").open("w" if fresh else "a") as log:
            _logs.configure("info", "json", log)
            work = asyncio.run(_work(directory, redis, results, run))
        if not work.finished:
            _say_how_to_continue(results)
            return _EXIT_INTERRUPTED
        report = demo_report.make(results, run, work)
        values = demo_report.as_values(report)
        click.echo(json.dumps(values, indent=2) if as_json else demo_report.as_text(report))
        results.reported()
    return 0


@contextlib.contextmanager
def _locked(directory: Path) -> Generator[None]:
    """Hold the lock of the directory: two demos in it would do the same work twice."""
    if sys.platform == "win32":
        yield
        return
    path = directory / "demo.lock"
    try:
        lock = server_directory.try_lock(path, fcntl.LOCK_EX)
    except OSError as error:
        raise ConfigError(f"{path} can't be used ({error.strerror}): remove it") from error
    if lock is None:
        raise ConfigError(
            f"a demo is already running in {directory}: wait for it, or use another --dir"
        )
    try:
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _results(directory: Path) -> Generator[Results]:
    path = directory / "demo.sqlite3"
    try:
        with contextlib.closing(Results(path)) as results:
            results.prepare()
            yield results
    except sqlite3.Error as error:
        raise ConfigError(f"{path} can't be used ({error}): remove it and start again") from error


def _run(results: Results, source: Path | None, files: int | None) -> tuple[DemoRun, bool]:
    """The run that was interrupted, or a new one; and whether it is new."""
    run = results.unfinished()
    if run is not None:
        counts = results.counts()
        began = (
            datetime.datetime.fromtimestamp(run.started_at, datetime.UTC)
            .astimezone()
            .strftime("%H:%M:%S")
        )
        say(
            f"continuing the run of {began}: {counts['todo']:,} of "
            f"{sum(counts.values()):,} files are left"
        )
        return run, False
    clock = SystemClock()
    paths = python_files(None if source is None else str(source.absolute()), files)
    if not paths:
        raise ConfigError(f"there is no Python file below {source}")
    run = DemoRun(clock.token(6), clock.now(), 1)
    results.begin(run, paths)
    whose = f"Python {sys.version.split()[0]}" if source is None else str(source)
    say(f"{len(paths):,} files of {whose}, one job each")
    return run, True


async def _work(directory: Path, redis: str | None, results: Results, run: DemoRun) -> StartResult:
    """Run the demo on the given server, or on a private one."""
    if redis is not None:
        return await Demo(redis, f"kiqpy-demo-{run.id}", results, run, say).work()
    server = EmbeddedServer(directory)
    await server.start()
    try:
        return await Demo(server.url, "kiqpy-demo", results, run, say).work()
    finally:
        await server.stop()


def _say_how_to_continue(results: Results) -> None:
    counts = results.counts()
    total = sum(counts.values())
    over = total - counts["todo"]
    say(f"stopped at {over:,} of {total:,} files; start it again to continue")

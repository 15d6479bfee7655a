"""`kiqpy demo`: real work on real input, on a server of its own, that survives being killed."""

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
from kiqpy.demo.results import Results, Run
from kiqpy.demo.run import Demo, Work
from kiqpy.errors import ConfigError
from kiqpy.store.embedded import directory as _place
from kiqpy.store.embedded.server import EmbeddedServer

if sys.platform != "win32":
    import fcntl

_INTERRUPTED = 130


@click.command(short_help="watch real work being done: parse this machine's Python library")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(".kiqpy"),
    envvar="KIQPY_DEMO_DIR",
    show_envvar=True,
    show_default=True,
    help="Where its server, its results and its log are.",
)
@click.option(
    "--redis",
    metavar="URL",
    envvar="KIQPY_DEMO_REDIS_URL",
    show_envvar=True,
    help="Another server than one of its own.",
)
@click.option(
    "--files",
    type=click.IntRange(min=1),
    metavar="N",
    envvar="KIQPY_DEMO_FILES",
    show_envvar=True,
    help="Only so many files.",
)
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The Python files below DIR instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def demo(
    directory: Path, redis: str | None, files: int | None, source: Path | None, as_json: bool
) -> int:
    """Parse every file of this Python's library: one job each, in two child processes.

    Stop it with ctrl-c or kill it, as hard as you like: the next start goes on where it was.
    """
    directory = directory.absolute()
    _place.prepare(directory)
    with _alone(directory), _results(directory) as results:
        run, fresh = _run(results, source, files)
        with (directory / "demo.log").open("w" if fresh else "a") as log:
            _logs.configure("info", "json", log)
            work = asyncio.run(_work(directory, redis, results, run))
        if not work.finished:
            _say_how_to_go_on(results)
            return _INTERRUPTED
        report = demo_report.make(results, run, work)
        values = demo_report.as_values(report)
        click.echo(json.dumps(values, indent=2) if as_json else demo_report.as_text(report))
        results.reported()
    return 0


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[None]:
    """Two at once in one directory would do the same work twice."""
    if sys.platform == "win32":
        yield
        return
    path = directory / "demo.lock"
    try:
        lock = _place.try_lock(path, fcntl.LOCK_EX)
    except OSError as error:
        raise ConfigError(f"{path} can't be used ({error.strerror}): remove it") from error
    if lock is None:
        raise ConfigError(f"a demo is running in {directory}: let it end, or use another --dir")
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


def _run(results: Results, source: Path | None, files: int | None) -> tuple[Run, bool]:
    """The run that was interrupted, or a new one."""
    run = results.unfinished()
    if run is not None:
        counts = results.counts()
        began = (
            datetime.datetime.fromtimestamp(run.started_at, datetime.UTC)
            .astimezone()
            .strftime("%H:%M:%S")
        )
        say(f"going on with the run of {began}: {counts['todo']:,} of "
            f"{sum(counts.values()):,} files are left")  # fmt: skip
        return run, False
    clock = SystemClock()
    paths = python_files(None if source is None else str(source.absolute()), files)
    if not paths:
        raise ConfigError(f"there is no Python file below {source}")
    run = Run(clock.token(6), clock.now(), 1)
    results.begin(run, paths)
    whose = f"Python {sys.version.split()[0]}" if source is None else str(source)
    say(f"{len(paths):,} files of {whose}, one job each")
    return run, True


async def _work(directory: Path, redis: str | None, results: Results, run: Run) -> Work:
    """With the server that was named, or one of its own."""
    if redis is not None:
        return await Demo(redis, f"kiqpy-demo-{run.id}", results, run, say).work()
    server = EmbeddedServer(directory)
    await server.start()
    try:
        return await Demo(server.url, "kiqpy-demo", results, run, say).work()
    finally:
        await server.stop()


def _say_how_to_go_on(results: Results) -> None:
    counts = results.counts()
    total = sum(counts.values())
    over = total - counts["todo"]
    say(f"stopped at {over:,} of {total:,} files; start it again, and it goes on from there")

"""Runs an app in the foreground: banner, signals, exit code."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic  # not Clock: signals come in real time
from typing import Final, final

from kiqpy._declare.address import redacted
from kiqpy._flow.forks import handles
from kiqpy._flow.tasks import TaskSet
from kiqpy._runtime.dump import dump
from kiqpy._runtime.exits import EXIT_DEFECT
from kiqpy._runtime.version import version
from kiqpy.app import App
from kiqpy.cli import _collector
from kiqpy.cli._blocked import BlockedLoopWatch
from kiqpy.cli._screen import complain, one_line, say
from kiqpy.cli.fleet.link import SupervisorLink
from kiqpy.cli.fleet.rules import ONE_SIGNAL_S, processes
from kiqpy.config import Config

_MAX_NAMES_SHOWN: Final = 12


@final
class Foreground:
    """Starts an app, waits for a signal or its fleet's supervisor, and stops the app."""

    def __init__(
        self,
        app: App,
        *,
        fast: bool = False,
        link: SupervisorLink | None = None,
        tune_gc: bool = False,
    ) -> None:
        self._app = app
        self._fast = fast
        self._link = link
        self._tune_gc = tune_gc
        self._stop_asked = asyncio.Event()
        self._signalled_at: float | None = None
        self._without_grace = False
        self._stopping = False
        self._tasks = TaskSet()

    async def run(self) -> int:
        """Run the app until it is stopped; the exit code.

        Raises what `App.start` and `App.stop` raise.
        """
        self._listen()
        if not await self._start():
            return 0
        if self._tune_gc:
            _collector.tune()
        self._show_banner()
        failure = await self._until_stop()
        self._stopping = True
        await self._app.stop(0 if self._without_grace else None)
        if failure is None:
            return 0
        traceback.print_exception(failure)
        complain(f"a defect in kiqpy stopped the app: {one_line(failure)}; please report it")
        return EXIT_DEFECT

    def told_to_exit(self, error: BaseException) -> None:
        """A task that is not the service's own has raised SystemExit: say where, and go on."""
        if self._app.started:
            complain(f"{exit_told(error)}; the worker goes on: whoever awaits the task fails")

    def _show_banner(self) -> None:
        if self._link is None:
            say(banner(self._app, f"pid {os.getpid()}", fast=self._fast))
            return
        who = f"{processes(self._link.size)}, pid {os.getppid()}"
        grace_s = self._app.config.shutdown_timeout
        self._link.report_up(grace_s, banner(self._app, who, fast=self._fast))

    async def _start(self) -> bool:
        """Start the app; False if it was told to stop meanwhile."""
        starting = asyncio.ensure_future(self._app.start())
        asked = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            if starting.cancelled():
                return False
        starting.result()
        return True

    async def _until_stop(self) -> BaseException | None:
        """Wait for a signal, local or remote, or for the app to fail: then the exception."""
        ended = asyncio.ensure_future(self._app.wait_stopped())
        asked = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if ended.done():
            return ended.exception()
        ended.cancel()
        return None

    # -- signals

    def _listen(self) -> None:
        blocked = BlockedLoopWatch(lambda: self._app.config.shutdown_timeout)
        self._on("SIGTERM", self._stop, blocked)
        self._on("SIGINT", self._stop, blocked)
        self._on("SIGTSTP", self._quiet)
        self._on("SIGTTIN", dump)
        if self._link is not None:
            self._link.listen(
                {
                    "stop": self._stop_asked.set,
                    "now": self._stop_now,
                    "": self._supervisor_ended,
                }
            )

    def _on(
        self, name: str, call: Callable[[], None], blocked: BlockedLoopWatch | None = None
    ) -> None:
        number = getattr(signal, name, None)
        if number is None:
            return
        try:
            asyncio.get_running_loop().add_signal_handler(number, call)
            if blocked is not None:
                blocked.hears(number)
            handles(number)
        except NotImplementedError:  # Windows: ctrl-c is a KeyboardInterrupt there
            pass

    def _stop(self) -> None:
        """Stop at the first signal, stop now at one that comes a second later or more.

        One sent to a process and to its group is one signal, as a fleet's worker may get ctrl-c
        and its supervisor's word.
        """
        again = self._signalled_at is not None
        if self._signalled_at is None:
            self._signalled_at = monotonic()
        elif monotonic() - self._signalled_at < ONE_SIGNAL_S:
            return
        self._stop_asked.set()
        if again:
            self._stop_now()
        if self._link is None:
            grace_s = self._app.config.shutdown_timeout
            first = f"stopping: running jobs get {grace_s:g} s; a second signal stops them now"
            say("stopping now: running jobs go back to their queues" if again else first)

    def _stop_now(self) -> None:
        self._without_grace = True
        if self._stopping:
            self._tasks.start(self._app.stop(0))

    def _supervisor_ended(self) -> None:
        self._stop_asked.set()
        complain(f"the supervisor has ended, so worker process {os.getpid()} stops too")

    def _quiet(self) -> None:
        if self._stopping or self._stop_asked.is_set():
            return
        self._tasks.start(self._app.quiet())
        if self._link is None:
            say("quiet: no more jobs are claimed; running jobs finish")


def exit_told(error: BaseException) -> str:
    """`SystemExit(2) was raised in a task, in fetch() at shop.py:12`."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f", in {frames[-1].name}() at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{error!r} was raised in a task or callback{at}"


def banner(app: App, who: str, *, fast: bool) -> str:
    """The lines shown at start: version, server, queues, workers, periodic jobs."""
    config, python = app.config, platform.python_version()
    loop = "uvloop" if fast else "asyncio"
    queues = [f"{name} {limit}" for name, limit in config.queues.items()]
    queues += [f"({' '.join(group.queues)}) {group.concurrency}" for group in config.groups]
    workers = [spec.name for spec in app.registry.specs()]
    periodics = [
        entry.name if entry.text in entry.name else f"{entry.name} {entry.text}"
        for entry in config.periodics
    ]
    return "\n".join(
        [
            f"kiqpy {version()}, python {python}, {loop}, {who}",
            f"  redis    {where(config)}",
            f"  queues   {_listed(queues)}",
            f"  workers  {_listed(workers)}",
            *([f"  periodic {_listed(periodics)}"] if periodics else []),
            "  ctrl-c to stop",
        ]
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES_SHOWN]) or "none"
    hidden = len(names) - _MAX_NAMES_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def where(config: Config) -> str:
    """The store's address, without its password."""
    given = config.redis_url
    if callable(given):
        return f"the URL that {getattr(given, '__name__', 'redis_url')}() returns"
    url = given or os.environ.get("KIQPY_REDIS_URL") or os.environ.get("REDIS_URL")
    if url:
        return redacted(url).partition("?")[0]
    return f"embedded, in {Path.cwd() / config.embedded_dir}"

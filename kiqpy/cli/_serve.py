"""A running app in the foreground: a banner, signals, an exit code."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, final

from kiqpy.app import App
from kiqpy.cli._dump import dump
from kiqpy.cli._screen import complain, one_line, say, version
from kiqpy.cli.fleet.rules import processes
from kiqpy.cli.fleet.start import Tether
from kiqpy.config import Config
from kiqpy.store.redis.connections import redacted

_DEFECT: Final = 70  # EX_SOFTWARE
_SHOWN: Final = 12


@final
class Service:
    """Starts an app, waits for a signal (or its fleet's supervisor), stops it."""

    def __init__(self, app: App, *, fast: bool = False, tether: Tether | None = None) -> None:
        self._app, self._fast, self._tether = app, fast, tether
        self._asked = asyncio.Event()
        self._signalled = self._resting = False
        self._at_once = False
        self._stopping = False
        self._chores: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until it is stopped; the exit code. Raises what `App.start` and `App.stop` raise."""
        self._listen()
        if not await self._start():
            return 0
        self._show()
        failure = await self._told()
        self._stopping = True
        await self._app.stop(0 if self._at_once else None)
        if failure is None:
            return 0
        traceback.print_exception(failure)
        complain(f"a part of kiqpy itself broke for good: {one_line(failure)}; please report this")
        return _DEFECT

    def _show(self) -> None:
        if self._tether is None:
            say(banner(self._app, f"pid {os.getpid()}", fast=self._fast))
            return
        who = f"{processes(self._tether.size)}, pid {os.getppid()}"
        grace_s = self._app.config.shutdown_timeout
        self._tether.up(grace_s, banner(self._app, who, fast=self._fast))

    async def _start(self) -> bool:
        """False: it was told to stop before it had started."""
        starting = asyncio.ensure_future(self._app.start())
        asked = asyncio.ensure_future(self._asked.wait())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            if starting.cancelled():
                return False
        starting.result()
        return True

    async def _told(self) -> BaseException | None:
        """Return at a signal, here or from afar, or with what broke the app."""
        ended = asyncio.ensure_future(self._app.wait_stopped())
        asked = asyncio.ensure_future(self._asked.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if ended.done():
            return ended.exception()
        ended.cancel()
        return None

    # -- signals

    def _listen(self) -> None:
        self._on("SIGTERM", self._stop)
        self._on("SIGINT", self._stop)
        self._on("SIGTSTP", self._quiet)
        self._on("SIGTTIN", dump)
        if self._tether is not None:
            words = {"stop": self._asked.set, "now": self._hurry, "": self._orphaned}
            self._tether.listen(words)

    def _on(self, name: str, call: Callable[[], None]) -> None:
        number = getattr(signal, name, None)
        if number is None:
            return
        try:
            asyncio.get_running_loop().add_signal_handler(number, call)
        except NotImplementedError:  # Windows: ctrl-c is a KeyboardInterrupt there
            pass

    def _stop(self) -> None:
        """A group's TERM or ctrl-c comes besides the supervisor's word: that is not the second."""
        again, self._signalled = self._signalled, True
        self._asked.set()
        if again:
            self._hurry()
        if self._tether is None:
            grace_s = self._app.config.shutdown_timeout
            first = f"stopping: running jobs get {grace_s:g} s; once more stops them now"
            say("stopping now: what runs goes back to its queue" if again else first)

    def _hurry(self) -> None:
        self._at_once = True
        if self._stopping:
            self._do(self._app.stop(0))

    def _orphaned(self) -> None:
        self._asked.set()
        complain(f"the supervisor is gone, so process {os.getpid()} stops too")

    def _quiet(self) -> None:
        if self._stopping or self._asked.is_set() or self._resting:
            return
        self._resting = True
        self._do(self._app.quiet())
        if self._tether is None:
            say("quiet: no more jobs are claimed; what runs ends in its own time")

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def banner(app: App, who: str, *, fast: bool) -> str:
    """Who runs what, where."""
    config, python = app.config, platform.python_version()
    loop = "uvloop" if fast else "asyncio"
    queues = [f"{name} {limit}" for name, limit in config.queues.items()]
    queues += [f"({' '.join(group.queues)}) {group.concurrency}" for group in config.groups]
    workers = [spec.name for spec in app.registry.specs()]
    return "\n".join([
        f"kiqpy {version()}, python {python}, {loop}, {who}",
        f"  redis    {where(config)}",
        f"  queues   {_listed(queues)}",
        f"  workers  {_listed(workers)}",
        "  ctrl-c to stop",
    ])  # fmt: skip


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "none"
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def where(config: Config) -> str:
    """The store's address, without its password."""
    given = config.redis_url
    if callable(given):
        return f"where {getattr(given, '__name__', 'redis_url')}() says"
    url = given or os.environ.get("KIQPY_REDIS_URL") or os.environ.get("REDIS_URL")
    if url:
        return redacted(url).partition("?")[0]
    return f"embedded, in {Path.cwd() / config.embedded_dir}"

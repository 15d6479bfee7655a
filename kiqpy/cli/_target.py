"""Which jobs a command acts on: those of a URL, of an app, or of the current folder."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from kiqpy.app import App
from kiqpy.cli import _logs
from kiqpy.cli._load_app import load_app
from kiqpy.errors import ConfigError

T = TypeVar("T")
_NO_TARGET = (
    "which Redis? Use --redis URL or --app MODULE:APP, or set KIQPY_REDIS_URL; this folder has "
    "neither an app in pyproject.toml nor a .kiqpy folder"
)


class Target(NamedTuple):
    """The options that say where the jobs are, and how to print the answer."""

    redis: str | None
    namespace: str | None
    app: str | None
    as_json: bool

    def client(self) -> App:
        """The app to use as a client, not started. Raises ConfigError if no Redis is named."""
        here, url = Path.cwd(), self.redis or os.environ.get("KIQPY_REDIS_URL")
        given = {"redis_url": url, "namespace": self.namespace}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if self.app or (not self.redis and _names_app(here / "pyproject.toml")):
            app = load_app(self.app, here)  # its namespace holds, wherever its server is
            app.override(**changes, reporters=())
            return app
        if not url and not os.environ.get("REDIS_URL") and not (here / ".kiqpy").is_dir():
            raise ConfigError(_NO_TARGET)
        return App(server=False, queues={}, **changes)

    def run(self, work: Callable[[App], Awaitable[T]], *, log_level: str = "error") -> T:
        """Start the client, run `work` with it, and stop it."""
        _logs.configure(log_level, "auto", sys.stderr)
        app = self.client()

        async def main() -> T:
            async with app.client_only():
                return await work(app)

        with asyncio.Runner() as runner:
            return runner.run(main())


def _names_app(project: Path) -> bool:
    """Whether pyproject.toml has a table for kiqpy; `load_app` reports what is wrong in it."""
    try:
        return "[tool.kiqpy]" in project.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def with_target(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of `Target` to a command; it gets the Target as its first argument."""
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document to stdout."
    )
    return as_json(with_location(command))


def with_location(command: Callable[..., int]) -> Callable[..., int]:
    """The same for a command that prints no answer: without --json."""

    @click.option(
        "--redis",
        metavar="URL",
        help="The URL of Redis or Valkey.  [env var: KIQPY_REDIS_URL, also used with --app]",
    )
    @click.option("--namespace", metavar="PREFIX", help="The prefix of all keys.")
    @click.option(
        "--app",
        envvar="KIQPY_APP",
        show_envvar=True,
        metavar="MODULE:APP",
        help="Use this app's settings and workers.  [default: the app in pyproject.toml]",
    )
    @functools.wraps(command)
    def targeted(
        redis: str | None,
        namespace: str | None,
        app: str | None,
        as_json: bool = False,
        **given: Any,
    ) -> int:
        return command(Target(redis, namespace, app, as_json), **given)

    return targeted

"""How a command reaches the jobs: by a URL, through an app, or as the folder says."""

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
from kiqpy.cli._find import find
from kiqpy.errors import ConfigError

T = TypeVar("T")
_NOWHERE = (
    "which Redis? Say --redis URL or --app MODULE:APP, or set KIQPY_REDIS_URL; there is no app in "
    "a pyproject.toml here, and no .kiqpy folder either"
)


class Reach(NamedTuple):
    """What was said about where the jobs are, and how to answer."""

    redis: str | None
    namespace: str | None
    app: str | None
    as_json: bool

    def client(self) -> App:
        """The app to look through, not started; ConfigError if nothing says where Redis is."""
        here, url = Path.cwd(), self.redis or os.environ.get("KIQPY_REDIS_URL")
        given = {"redis_url": url, "namespace": self.namespace}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if self.app or (not self.redis and _names_app(here / "pyproject.toml")):
            app = find(self.app, here)  # it knows its namespace, wherever its server is
            app.override(**changes, reporters=())
            return app
        if not url and not os.environ.get("REDIS_URL") and not (here / ".kiqpy").is_dir():
            raise ConfigError(_NOWHERE)
        return App(server=False, queues={}, **changes)

    def run(self, work: Callable[[App], Awaitable[T]]) -> T:
        """Do some work with the started client."""
        _logs.configure("error", "auto", sys.stderr)
        app = self.client()

        async def main() -> T:
            async with app.client_only():
                return await work(app)

        with asyncio.Runner() as runner:
            return runner.run(main())


def _names_app(project: Path) -> bool:
    """Whether it is worth a look; what is wrong with it, `find` says."""
    try:
        return "[tool.kiqpy]" in project.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def reaches(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `Reach`, and the result as its first argument."""

    @click.option(
        "--redis",
        metavar="URL",
        help="Where Redis or Valkey is.  [env var: KIQPY_REDIS_URL, which serves an app too]",
    )
    @click.option("--namespace", metavar="PREFIX", help="What all keys begin with.")
    @click.option(
        "--app",
        envvar="KIQPY_APP",
        show_envvar=True,
        metavar="MODULE:APP",
        help="Look through this app.  [default: that of pyproject.toml]",
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    @functools.wraps(command)
    def reaching(
        redis: str | None, namespace: str | None, app: str | None, as_json: bool, **given: Any
    ) -> int:
        return command(Reach(redis, namespace, app, as_json), **given)

    return reaching

"""`kiqpy web`: the dashboard, served by itself."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType
from typing import Final

import click

from kiqpy.app import App
from kiqpy.cli._screen import say
from kiqpy.cli._target import Target, with_location
from kiqpy.errors import ConfigError

_NO_EXTRA: Final = "the dashboard needs the extra `web`: pip install 'kiqpy[web]'"
_OPEN: Final = (
    "--host {host} can be reached from other machines, so somebody must be asked who they are: "
    "set KIQPY_WEB_AUTH=name:password, or mount jobs.dashboard(auth=...) in a service of yours"
)
_STREAMS_END_WITHIN_S: Final = 1  # open pages must not hold up ctrl-c


@click.command(short_help="the dashboard, in a browser")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True)
@click.option("--read-only", is_flag=True, help="Show everything, change nothing.")
@with_location
def web(target: Target, host: str, port: int, read_only: bool) -> int:
    """Serve the dashboard until ctrl-c.

    It works with or without an app; only an app knows its periodic jobs. Name and password are
    asked for if KIQPY_WEB_AUTH=name:password is set, and must be for any --host but this machine.
    """
    if not _is_loopback(host) and not os.environ.get("KIQPY_WEB_AUTH"):
        raise ConfigError(_OPEN.format(host=host))

    async def serve(app: App) -> int:
        return await _serve(app, host, port, read_only)

    return target.run(serve, log_level="info")


async def _serve(app: App, host: str, port: int, read_only: bool) -> int:
    dashboard = app.dashboard(read_only=read_only)
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError(_NO_EXTRA) from error
    config = uvicorn.Config(
        dashboard,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # what a proxy says of a client is no proof of anything
        timeout_graceful_shutdown=_STREAMS_END_WITHIN_S,
    )
    with _bound(host, port) as listening:
        port = listening.getsockname()[1]
        say(f"The dashboard is at http://{_shown(host)}:{port} (ctrl-c ends it)")

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Generator[None]:
                with _stopping(self.handle_exit):
                    yield

        await Server(config).serve([listening])
    return 0


@contextmanager
def _stopping(stop: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Call `stop` for ctrl-c and TERM; uvicorn would raise them again after it has stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, stop)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    """Listen here, because uvicorn would end the process where it can't."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise ConfigError(f"can't listen on {host}:{port}: {why}; choose another --port") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host

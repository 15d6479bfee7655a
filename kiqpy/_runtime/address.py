"""Finds the store: at the URL of the options or the environment, or in the embedded server."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from pathlib import Path

from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import ConfigError
from kiqpy.observe._sinks import log_writer
from kiqpy.store.embedded.server import EmbeddedServer


async def resolve(config: Config) -> tuple[str, EmbeddedServer | None]:
    """The URL, and the embedded server (started) if it is that one.

    Order: `redis_url` (a callable is called, an awaitable awaited), KIQPY_REDIS_URL, REDIS_URL,
    the embedded server in `embedded_dir`. ConfigError if that is forbidden or impossible.
    """
    given = config.redis_url
    if callable(given):
        answer = await asyncio.to_thread(given)  # it may wait for an address, and block
        given = await answer if inspect.isawaitable(answer) else answer
    url = given or os.environ.get("KIQPY_REDIS_URL") or os.environ.get("REDIS_URL")
    if url:
        return url, None
    if not config.embedded:
        raise ConfigError("no redis_url, no REDIS_URL, and embedded=False: set one of them")
    directory = Path(os.getcwd(), config.embedded_dir)
    server = EmbeddedServer(directory)
    await server.start()
    # Who finds it running says nothing: whoever started it has said it.
    if server.started_here:
        log_writer().write("warning", "store.embedded", _told(directory))
    return server.url, server


def _told(directory: Path) -> dict[str, str]:
    why = "no redis_url and no REDIS_URL: using a private server, on this machine only"
    return {"directory": str(directory), "reason": why}


def new_ident(config: Config, clock: Clock) -> str:
    """`prefix:pid:nonce`, new at every start; the prefix is the host's name unless given."""
    prefix = config.identity or os.environ.get("DYNO") or socket.gethostname()
    plain = "".join(c if c.isalnum() or c in "_.-" else "-" for c in prefix)[:64]
    return f"{plain}:{os.getpid()}:{clock.token(6)}"

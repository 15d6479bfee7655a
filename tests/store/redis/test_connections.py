"""Shown addresses hide passwords; connections that close while idle; unusual error texts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kiqpy._declare.address import redacted
from kiqpy.errors import StoreRefused
from kiqpy.store.redis.connections import Connections, SingleServer
from tests.eventually import eventually
from tests.server import TestServer


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("unix:///a.sock?db=1&password=secret", "unix:///a.sock?db=1&password=***"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("queue", ["BUSY", "LOADING", "maxmemory", "PAUSED"])
@pytest.mark.anyio
async def test_a_wrong_type_is_refused_whatever_its_key_is_called(
    queue: str, clean: TestServer
) -> None:
    """It was taken for a server that is busy, and the same call was repeated for ever."""
    clean.cli("SET", f"queue:{queue}", "x")
    names = ("kiq:cron", "kiq:cron:off", "queues", "schedule", f"queue:{queue}")
    connections = Connections(SingleServer(clean.url, {}), 1)
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await connections.call("tick", names, ("p", 1, queue))
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await connections.command("LLEN", f"queue:{queue}")
    await connections.close()


class Relay:
    """What stands between a client and its server, and hangs up: politely or not."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        back, forth = await asyncio.open_unix_connection(self._path)
        pumps = [
            asyncio.create_task(self._pump(*ends)) for ends in ((reader, forth), (back, writer))
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
        except (OSError, RuntimeError):  # hung up
            pass
        finally:
            sink.close()

    def hang_up(self, *, reset: bool) -> None:
        for writer in self._writers:
            if reset:
                linger = struct.pack("ii", 1, 0)  # a close then sends RST
                link: socket.socket = writer.get_extra_info("socket")
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
        self._writers.clear()


@asynccontextmanager
async def behind_a_relay(server: TestServer) -> AsyncIterator[tuple[Connections, Relay]]:
    relay = Relay(server.url.removeprefix("unix://"))
    listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    connections = Connections(SingleServer(f"redis://127.0.0.1:{port}/0", {}), 5)
    try:
        yield connections, relay
    finally:
        await connections.close()
        relay.hang_up(reset=False)
        listener.close()


def loops() -> list[Any]:
    found: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("loop", loops())
def test_a_connection_that_ended_while_it_was_idle_costs_nobody_a_command(
    loop: Callable[[], asyncio.AbstractEventLoop], reset: bool, clean: TestServer
) -> None:
    """With uvloop a reset one raised RuntimeError, of which the app's stages died."""

    async def idle_and_ask() -> None:
        async with behind_a_relay(clean) as (connections, relay):
            assert await connections.command("PING") == b"PONG"
            [connection] = connections._pool._idle
            relay.hang_up(reset=reset)
            await eventually(lambda: _has_ended(connection), "the end of the connection")
            assert await connections.command("PING") == b"PONG"
            assert await connections.wait("q", ("BLPOP", "nothing", 0.01)) is None
            relay.hang_up(reset=reset)
            blocking = connections.blocking("q").connection
            await eventually(lambda: _has_ended(blocking), "the end of the blocking one")
            assert await connections.wait("q", ("BLPOP", "nothing", 0.01)) is None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(idle_and_ask())


def _has_ended(connection: Any) -> bool:
    return connection._writer.is_closing() or connection._reader.at_eof()


@pytest.mark.anyio
async def test_half_a_surrogate_pair_can_be_said(clean: TestServer) -> None:
    """A foreign job whose jid held one stopped every worker process."""
    connections = Connections(SingleServer(clean.url, {}), 1)
    assert await connections.command("ECHO", "a\ud800b") == b"a\xed\xa0\x80b"
    await connections.close()

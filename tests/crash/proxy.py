"""A TCP proxy between a client and a local server that fails as it is told.

Messages are told apart, so that a fault strikes exactly one of them: a reply is cut after the
server has carried out its request, a request is held back until the client has given it up, and
arrives all the same. Which messages are struck is a matter of the seed and of their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from typing import Final
from urllib.parse import unquote, urlsplit

_MOST_HELD: Final = 256  # requests on their way at a time; beyond, they travel at once
_RST: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Messages:
    """Cuts a stream of RESP (version 2) into whole messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """All messages that are complete by now, each as it came."""
        self._rest += data
        whole: list[bytes] = []
        at = 0
        while (end := _end(self._rest, at)) is not None:
            whole.append(self._rest[at:end])
            at = end
        self._rest = self._rest[at:]
        return whole


def _end(data: bytes, at: int) -> int | None:
    """Where the message that begins at `at` ends; None: not all of it is there."""
    owed = 1
    while owed:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind, number = data[at : at + 1], data[at + 1 : line]
        at = line + 2
        owed -= 1
        if kind == b"*":
            owed += max(0, int(number))
        elif kind == b"$" and int(number) >= 0:
            at += int(number) + 2
            if at > len(data):
                return None
    return at


class Proxy:
    """`async with Proxy(server.url, seed=1) as proxy`: give clients `proxy.url`; fair weather."""

    def __init__(self, url: str, *, seed: int) -> None:
        parts = urlsplit(url)
        self._path = unquote(parts.path) if parts.scheme == "unix" else None
        self._address = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._cut = self._late = self._late_s = 0.0
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self._replies, self._asked = random.Random(f"{seed} cut"), random.Random(f"{seed} late")
        self._dark = self._closed_door = False
        self._light = asyncio.Event()
        self._light.set()
        self.held = 0
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"redis://{host}:{port}/0"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in list(self._pairs):
            pair.reset()
        await asyncio.sleep(0)

    def storm(self, cut: float, late: float, late_s: float) -> None:
        """Of the replies, `cut` are not passed on and the client sees a reset; of the requests,
        `late` are held back for `late_s` and more, and carried out whoever still listens.
        """
        self._cut, self._late, self._late_s = cut, late, late_s

    def black_hole(self) -> None:
        """Take everything in and let nothing through; connections stay open."""
        self._dark = True
        self._light.clear()

    def refuse(self) -> None:
        """Reset every connection, now and when it is made."""
        self._closed_door = True
        for pair in list(self._pairs):
            pair.reset()

    def heal(self) -> None:
        """No more faults; what a black hole has swallowed comes out."""
        self._cut = self._late = 0.0
        self._dark = self._closed_door = False
        self._light.set()

    def strikes(self) -> bool:
        """Whether this reply is cut."""
        return self._replies.random() < self._cut

    def delay(self) -> float:
        """How long this request is held back."""
        if self._asked.random() >= self._late or self.held >= _MOST_HELD:
            return 0.0
        return self._late_s * (1.0 + self._asked.random() / 2)

    async def passable(self) -> None:
        """Wait for the end of a black hole."""
        await self._light.wait()

    @contextlib.contextmanager
    def holding(self):  # type: ignore[no-untyped-def]
        """Count a request that is on its way."""
        self.held += 1
        self.faults["late"] += 1
        try:
            yield
        finally:
            self.held -= 1

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed_door:
            return _reset(writer)
        try:
            there = await self._connect()
        except OSError:
            return _reset(writer)
        pair = _Pair(self, reader, writer, *there)
        self._pairs.add(pair)
        for run in (pair.forth(), pair.back()):
            task = asyncio.ensure_future(run)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._path is not None:
            return await asyncio.open_unix_connection(self._path)
        return await asyncio.open_connection(*self._address)

    def forget(self, pair: _Pair) -> None:
        self._pairs.discard(pair)


class _Pair:
    """One client connection and its counterpart at the server."""

    def __init__(
        self,
        proxy: Proxy,
        client_in: asyncio.StreamReader,
        client_out: asyncio.StreamWriter,
        server_in: asyncio.StreamReader,
        server_out: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client_in, self._client_out = client_in, client_out
        self._server_in, self._server_out = server_in, server_out
        self._owed = 0  # replies that the server has yet to give
        self._hung_up = False

    async def forth(self) -> None:
        """Requests. One that was held back is delivered although its client has hung up."""
        messages = Messages()
        with contextlib.suppress(OSError):
            while data := await self._client_in.read(2**16):
                for request in messages.feed(data):
                    self._proxy.requests += 1
                    if (delay_s := self._proxy.delay()) > 0:
                        with self._proxy.holding():
                            await asyncio.sleep(delay_s)
                    await self._proxy.passable()
                    self._owed += 1
                    self._server_out.write(request)
                await self._server_out.drain()
        self._hung_up = True
        if not self._owed:
            self.reset()

    async def back(self) -> None:
        """Replies."""
        messages = Messages()
        with contextlib.suppress(OSError):
            while data := await self._server_in.read(2**16):
                for reply in messages.feed(data):
                    self._owed -= 1
                    await self._proxy.passable()
                    if self._proxy.strikes():
                        self._proxy.faults["cut"] += 1
                        return self.reset()
                    if not self._client_out.is_closing():
                        self._client_out.write(reply)
                if self._hung_up and not self._owed:
                    break
        self.reset()

    def reset(self) -> None:
        """Both sides, at once."""
        self._proxy.forget(self)
        _reset(self._client_out)
        _reset(self._server_out)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()

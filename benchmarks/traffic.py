"""A proxy that counts what clients and server exchange: commands, writes, bytes."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote


class Counts:
    """What went through so far. Commands that a Lua script calls are not sent and not counted."""

    def __init__(self) -> None:
        self.verbs: Counter[str] = Counter()
        self.trips = 0  # a command, or a pipeline of them, sent in one write
        self.sent = self.received = 0  # bytes, to and from the server

    @property
    def commands(self) -> int:
        return self.verbs.total()

    def clear(self) -> None:
        self.verbs.clear()
        self.trips = self.sent = self.received = 0


@asynccontextmanager
async def counting(socket: Path) -> AsyncIterator[tuple[str, Counts]]:
    """The URL of a way to the server at `socket`, and the counts of what goes that way."""
    counts, tasks = Counts(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_unix_connection(str(socket))
        requests = Requests(counts)
        replies = asyncio.create_task(_copy(upstream[0], writer, counts))
        try:
            while data := await reader.read(2**18):
                requests.feed(data)
                upstream[1].write(data)
        finally:
            replies.cancel()
            upstream[1].close()
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)

    with tempfile.TemporaryDirectory(prefix="kiqpy-count-") as folder:
        path = Path(folder) / "proxy.sock"
        server = await asyncio.start_unix_server(connected, str(path))
        try:
            yield "unix://" + quote(str(path)), counts
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: Counts) -> None:
    while data := await reader.read(2**18):
        counts.received += len(data)
        writer.write(data)
    writer.close()


class Requests:
    """Reads requests as they come in pieces, and counts them."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._rest = b""

    def feed(self, data: bytes) -> None:
        self._rest += data
        self._counts.sent += len(data)
        before = self._counts.commands
        while (end := self._whole()) is not None:
            self._rest = self._rest[end:]
        self._counts.trips += self._counts.commands > before

    def _whole(self) -> int | None:
        """Where the first request ends, if all of it is there."""
        line = self._rest.find(b"\r\n")
        if line < 0:
            return None
        at, verb = line + 2, b""
        for _ in range(int(self._rest[1:line])):
            line = self._rest.find(b"\r\n", at)
            if line < 0:
                return None
            size = int(self._rest[at + 1 : line])
            verb = verb or self._rest[line + 2 : line + 2 + size]
            at = line + 2 + size + 2
        if at > len(self._rest):
            return None
        self._counts.verbs[verb.decode().upper()] += 1
        return at

"""The connections to a server: redis-py's, with its own retries turned off.

There are three kinds, which fail differently: a small pool for commands with a short timeout, one
connection for each queue that a producer waits on, and a blocking client for the heartbeat's
thread. After `StoreUnavailable` (no answer, or "not now") the same call may be made again; after
`StoreRefused` (the answer is no) it would be refused again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from typing import Any, final

import redis.exceptions

from kiqpy.errors import LifecycleError
from kiqpy.store.redis.connections.blocking import BlockingConnection
from kiqpy.store.redis.connections.connector import WAIT_S, Connector, SingleServer
from kiqpy.store.redis.connections.errors import ServerFull, translate
from kiqpy.store.redis.connections.exchange import Arg
from kiqpy.store.redis.connections.pool import Pool
from kiqpy.store.redis.scripts import script

__all__ = ["WAIT_S", "Arg", "Connections", "Connector", "ServerFull", "SingleServer"]

_SCAN_COUNT = 1000  # keys or members that the server looks at for one page


@final
class Connections:
    """All connections of one process to one server."""

    def __init__(self, connector: Connector, pool_size: int) -> None:
        self._connector = connector
        self._pool = Pool(connector.connection, pool_size)
        self._blocking: dict[str, BlockingConnection] = {}
        self._client: Any = None
        self._known = False
        self._loop: asyncio.AbstractEventLoop | None = None  # the connections belong to it

    @contextmanager
    def translate_errors(self) -> Generator[None]:
        """Raise redis-py's errors as ours."""
        try:
            yield
        except (TimeoutError, redis.exceptions.RedisError, OSError) as error:
            raise translate(error, self._connector.where, known=self._known) from error

    async def command(self, *words: Arg) -> Any:
        """Send a command once and return its reply."""
        with self.translate_errors():
            reply = await self._execute(*words)
        self._known = True
        return reply

    async def _execute(self, *words: Arg) -> Any:
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._belong_to(loop)
        async with asyncio.timeout(self._connector.command_s):
            return await self._pool.execute(words)

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            raise LifecycleError("a store is used in the event loop in which its app was started")
        self._loop = loop

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run a script once and return its reply; the server gets its text if it has not yet."""
        known = script(name)
        with self.translate_errors():
            try:
                return await self._execute("EVALSHA", known.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:  # a reply: it has not run
                return await self._execute("EVAL", known.text, len(keys), *keys, *args)

    def call_now(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """`call` for a thread; blocks."""
        if self._client is None:
            self._client = self._connector.client()
        known = script(name)
        with self.translate_errors():
            try:
                return self._client.execute_command("EVALSHA", known.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._client.execute_command("EVAL", known.text, len(keys), *keys, *args)

    async def scan_keys(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """All keys that match, in pages; a key that comes or goes meanwhile may be missed."""
        async for names in self._scan("SCAN", (), "MATCH", pattern):
            yield names

    async def scan_set(self, key: str) -> AsyncIterator[list[bytes]]:
        """The members of a set, in pages; a member may come twice."""
        async for members in self._scan("SSCAN", (key,)):
            yield members

    async def _scan(self, verb: str, key: tuple[str, ...], *match: str) -> AsyncIterator[Any]:
        cursor: Arg = 0
        while True:
            reply = await self.command(verb, *key, cursor, *match, "COUNT", _SCAN_COUNT)
            cursor, found = reply
            yield found
            if int(cursor) == 0:
                return

    def connection(self) -> Any:
        """A new connection for the caller, not yet connected; reading from it has no timeout."""
        return self._connector.connection()

    def blocking(self, name: str) -> BlockingConnection:
        """The connection for commands that block on `name`."""
        if name not in self._blocking:
            self._blocking[name] = BlockingConnection(
                self.connection(), self._connector.wait_s, self.command
            )
        return self._blocking[name]

    async def wait(self, name: str, words: Sequence[Arg]) -> Any:
        """Send a command that blocks, on the connection of `name`; return its reply."""
        with self.translate_errors():
            return await self.blocking(name).execute(words)

    async def unwait(self, name: str) -> None:
        """End the command that blocks on the connection of `name`."""
        if name in self._blocking:
            await self._blocking[name].unblock()

    async def close(self) -> None:
        """Drop every connection."""
        blocking, self._blocking = self._blocking, {}
        for one in blocking.values():
            await one.connection.disconnect(nowait=True)
        await self._pool.close()
        if self._client is not None:
            self._client.close()
            self._client = None

"""The pool of connections that commands share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, final

import redis.exceptions

from kiqpy.store.redis.connections.exchange import Arg, ensure_connected, exchange, pack


@final
class Pool:
    """At most `size` connections, each with one command at a time.

    redis-py's own pool and client cost more than the round trip to a near server: they pack
    commands in Python, and count each for metrics that kiqpy does not read.
    """

    def __init__(self, connect: Callable[[], Any], size: int) -> None:
        self._connect = connect
        self._room = asyncio.Semaphore(size)
        self._all: list[Any] = []
        self._idle: list[Any] = []

    async def execute(self, words: tuple[Arg, ...]) -> Any:
        """Send a command and return its reply.

        Cancel, and every error but a refusal, drop the connection, whose state is then unknown.
        """
        packed = pack(words)
        async with self._room:
            connection = self._idle.pop() if self._idle else self._new()
            try:
                await ensure_connected(connection)
                return await exchange(connection, packed)
            except redis.exceptions.ResponseError:
                raise
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                self._idle.append(connection)

    def _new(self) -> Any:
        connection = self._connect()
        self._all.append(connection)
        return connection

    async def close(self) -> None:
        """Drop every connection; a later command connects again."""
        for connection in self._all:
            await connection.disconnect(nowait=True)

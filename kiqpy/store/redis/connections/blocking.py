"""The connection on which one queue is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast, final

from kiqpy.store.redis.connections.exchange import Arg, drop_if_stale, exchange, pack

_ASK_AGAIN_S = 0.05


@final
class BlockingConnection:
    """One connection and the command that blocks on it, if any.

    `limit_s`: without a reply for so long, the connection is taken to be lost. `command`: sends a
    command on another connection, which is the only way to end one that blocks.
    """

    def __init__(
        self,
        connection: Any,
        limit_s: float | None,
        command: Callable[..., Awaitable[object]],
    ) -> None:
        self.connection = connection
        self._limit_s = limit_s
        self._command = command
        self._client_id = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def execute(self, words: Sequence[Arg]) -> Any:
        """Send a command that blocks and return its reply.

        Cancel, and any error, drop the connection: its state is unknown.
        """
        self._idle.clear()
        try:
            async with asyncio.timeout(self._limit_s):
                await self._ensure_connected()
                return await exchange(self.connection, pack(tuple(words)))
        except BaseException:
            await self.connection.disconnect(nowait=True)
            raise
        finally:
            self._idle.set()

    async def _ensure_connected(self) -> None:
        await drop_if_stale(self.connection)
        if not self.connection.is_connected:
            await self.connection.connect()
            self._client_id = cast("int", await exchange(self.connection, pack(("CLIENT", "ID"))))

    async def unblock(self) -> None:
        """Return once no command blocks; asks again in case it was still on its way."""
        while not self._idle.is_set():
            if self._client_id:
                await self._command("CLIENT", "UNBLOCK", self._client_id)
            with suppress(asyncio.TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN_S):
                    await self._idle.wait()

"""A connection for one command that blocks, such as the wait for a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast, final

from kiqpy.store.redis.connections.exchange import Arg, ensure_connected, exchange, pack

_UNBLOCK_EVERY_S = 0.05


@final
class BlockingConnection:
    """One connection, and the command that blocks on it, if any.

    `limit_s`: after so many seconds without a reply the connection counts as lost; None: never.
    `command`: sends a command on another connection; only that can end a command that blocks.
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

        Cancel and every error drop the connection, whose state is then unknown.
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
        if await ensure_connected(self.connection):
            self._client_id = cast("int", await exchange(self.connection, pack(("CLIENT", "ID"))))

    async def unblock(self) -> None:
        """End the command; return when it has ended.

        Asks repeatedly: the first request may overtake the command.
        """
        while not self._idle.is_set():
            if self._client_id:
                await self._command("CLIENT", "UNBLOCK", self._client_id)
            with suppress(asyncio.TimeoutError):
                async with asyncio.timeout(_UNBLOCK_EVERY_S):
                    await self._idle.wait()

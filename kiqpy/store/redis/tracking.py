"""Wakes producers whose queue has no connection of its own to wait on.

The server announces every change of a key that begins with `queue:` (CLIENT TRACKING in broadcast
mode, redirected to a connection that only listens). An announcement is only a hint: the producer
fetches, and a lost hint delays it by one `WAIT_S`. Without hints (an old server, a user who may
not, a cut connection) a wait ends after `poll_s`, so the queue is polled.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, final

from kiqpy.clock import Clock
from kiqpy.errors import StoreError
from kiqpy.store.redis.connections import Connections


@final
class Tracker:
    """Two connections for any number of queues; the first wait opens them."""

    def __init__(self, connections: Connections, prefix: str, poll_s: float, clock: Clock) -> None:
        self._connections = connections
        self._prefix = prefix
        self._poll_s = poll_s
        self._clock = clock
        # Kept between waits: a change during a fetch must end the next wait.
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._task: asyncio.Task[None] | None = None
        self.live = False

    async def wait(self, key: str, timeout_s: float) -> bool:
        """Return when `key` may have changed since the last wait for it, or after the timeout.

        False: it has not changed; the server would have announced it.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._listen_on(), name="kiqpy:tracker")
        changed = self._changed[key]
        limit_s = timeout_s if self.live else min(timeout_s, self._poll_s)
        late_at = self._clock.monotonic() + limit_s
        timer = self._clock.call_later(limit_s, changed.set)
        try:
            await changed.wait()
            return not self.live or self._clock.monotonic() < late_at
        finally:
            timer.cancel()
            changed.clear()

    def wake(self, key: str) -> None:
        """End a wait for `key`."""
        self._changed[key].set()

    async def _listen_on(self) -> None:
        while True:
            try:
                await self._listen()
            except StoreError:
                self.live = False
                await self._clock.sleep(1.0 + self._clock.random())

    async def _listen(self) -> None:
        listening, tracking = self._connections.connection(), self._connections.connection()
        try:
            with self._connections.translate_errors():
                await listening.connect()
                listener = await _execute(listening, "CLIENT", "ID")
                await _execute(listening, "SUBSCRIBE", "__redis__:invalidate")
                await tracking.connect()
                words = ("TRACKING", "ON", "REDIRECT", listener, "BCAST", "PREFIX", self._prefix)
                await _execute(tracking, "CLIENT", *words)
                self.live = True
                self._wake_all()
                while True:
                    self._on_message(await listening.read_response())
        finally:
            for connection in (listening, tracking):
                await connection.disconnect(nowait=True)

    def _on_message(self, message: list[Any]) -> None:
        keys = message[2]
        if keys is None:  # FLUSHDB: all keys
            self._wake_all()
            return
        for key in keys:
            name = key.decode()
            if name in self._changed:
                self._changed[name].set()

    def _wake_all(self) -> None:
        for changed in self._changed.values():
            changed.set()

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _execute(connection: Any, *words: str | int) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()

"""A proxy with a round-trip time: `python -m benchmarks.proxy PORT TARGET_PORT ROUND_TRIP_MS`.

Every byte arrives half a round trip later, in both directions; nothing is lost, and the bandwidth
is not limited.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections import deque


class Precise(selectors.EpollSelector):
    """epoll waits in whole milliseconds; select() on epoll's own descriptor does not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            select.select([self.fileno()], [], [], timeout)
        return super().select(0)


class End(asyncio.Protocol):
    """One end of a connection; what it receives leaves at the other end after the delay."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._on_the_way: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._on_the_way.append(data)
        self._loop.call_later(self._delay_s, self.deliver)

    def deliver(self) -> None:
        data = self._on_the_way.popleft()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        other = self.other
        if other is not None and other.transport is not None:
            self._loop.call_later(self._delay_s, other.transport.close)


class Near(End):
    """The client's end: opens the far one."""

    def __init__(self, delay_s: float, port: int) -> None:
        super().__init__(delay_s)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._task = self._loop.create_task(self._open())

    async def _open(self) -> None:
        assert self.transport is not None
        try:
            _, far = await self._loop.create_connection(
                lambda: End(self._delay_s), "127.0.0.1", self._port
            )
        except OSError:
            self.transport.close()
            return
        self.other, far.other = far, self
        self.transport.resume_reading()


async def serve(port: int, target: int, rtt_ms: float) -> None:
    loop = asyncio.get_running_loop()
    delay_s = rtt_ms / 2000
    listening = await loop.create_server(lambda: Near(delay_s, target), "127.0.0.1", port)
    await listening.serve_forever()


if __name__ == "__main__":
    here, there, ms = sys.argv[1:]
    runner = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Precise()))
    try:
        with runner:
            runner.run(serve(int(here), int(there), float(ms)))
    except KeyboardInterrupt:
        pass

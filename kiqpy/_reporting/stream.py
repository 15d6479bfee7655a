"""An async iterator over events: `async for event in stream`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Self, final

from kiqpy._declare.checks import count, queue_name
from kiqpy._flow.thread import running_loop, running_loop_or_none
from kiqpy._reporting.bus import Bus, matching
from kiqpy.errors import LifecycleError
from kiqpy.event import Event


@final
class EventStream:
    """Events in the order in which they happen; at most `limit` wait, then the oldest is dropped.

    `dropped` counts them. Use `async with`, then `async for`: the stream begins when it is entered
    and ends when the app has stopped. Use it in one event loop, the app's or another. Cancelling a
    wait loses no event.
    """

    def __init__(
        self, bus: Bus, patterns: tuple[str, ...], queue: str | None = None, limit: int = 1000
    ) -> None:
        self.dropped = 0
        self._bus = bus
        self._names = matching(patterns or ("*",))
        self._queue = None if queue is None else queue_name(queue)
        self._waiting: deque[Event] = deque()
        self._limit = count("limit", limit)
        self._open: bool | None = None
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # where it is read
        self._lock = threading.Lock()  # events may come from another loop's thread

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise LifecycleError("a stream is opened once: make another with app.events(...)")
        self._open = True
        self._loop = running_loop()
        for name in self._names:
            self._bus.attach(name, self._receive)
        self._bus.on_end(self._end)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._bus.detach(self._receive)
        self._bus.forget_end(self._end)
        self._waiting.clear()
        self._end()

    def _receive(self, event: Event) -> None:
        if self._queue is not None and _queue_of(event) != self._queue:
            return
        with self._lock:
            if len(self._waiting) == self._limit:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(event)
        self._wake()

    def _end(self) -> None:
        self._open = False
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is None or loop is running_loop_or_none():
            self._changed.set()
            return
        try:
            loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:  # that loop was closed, and nobody reads it any more
            self._bus.detach(self._receive)
            self._bus.forget_end(self._end)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Cancel: safe, nothing is taken."""
        if self._open is None:
            raise LifecycleError("open the stream first: `async with app.events(...) as stream`")
        if self._loop is not running_loop_or_none():
            raise LifecycleError(
                "this stream was opened in another event loop: open one where it is read"
            )
        while not self._waiting:
            if not self._open:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        with self._lock:
            return self._waiting.popleft()


def _queue_of(event: Event) -> object:
    """The queue an event is about; None for one that is about the process, say."""
    job = getattr(event, "job", None)
    return getattr(event, "queue", None) if job is None else job.queue

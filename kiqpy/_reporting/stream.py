"""An async iterator over events: `async for event in stream`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self, final

from kiqpy._declare.checks import count, queue_name
from kiqpy._reporting.bus import Bus, matching
from kiqpy.errors import LifecycleError
from kiqpy.event import Event, ProcessStopped


@final
class EventStream:
    """Events in the order in which they happen; at most `limit` wait, then the oldest is dropped.

    `dropped` counts them. Use `async with`, then `async for`: the stream begins when it is entered
    and ends when the app has stopped. Use it in the app's event loop. Cancelling a wait loses no
    event.
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

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise LifecycleError("a stream is opened once: make another with app.events(...)")
        self._open = True
        for name in self._names:
            self._bus.attach(name, self._receive)
        self._bus.attach(ProcessStopped.name, self._end)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._bus.detach(self._receive)
        self._bus.detach(self._end)
        self._waiting.clear()
        self._end()

    def _receive(self, event: Event) -> None:
        if self._queue is not None and _queue_of(event) != self._queue:
            return
        if len(self._waiting) == self._limit:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)
        self._changed.set()

    def _end(self, _event: Event | None = None) -> None:
        self._open = False
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Cancel: safe, nothing is taken."""
        while not self._waiting:
            if self._open is None:
                raise LifecycleError(
                    "open the stream first: `async with app.events(...) as stream`"
                )
            if not self._open:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()


def _queue_of(event: Event) -> object:
    """The queue an event is about; None for one that is about the process, say."""
    job = getattr(event, "job", None)
    return getattr(event, "queue", None) if job is None else job.queue

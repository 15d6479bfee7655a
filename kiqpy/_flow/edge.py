"""What two stages share: a bounded queue of batches, with credit.

Theory of operation. Items go right in batches, because an item at a time costs an event loop five
times as much. What goes left is one integer, the demand: how many items may still be put. Credit
comes back when an item is *done*, not when it is taken, so that demand counts work under way and
not things waiting, and nothing is hoarded. Edges in a row share it: the credit of an edge that has
a `source` is the credit of that source. Only the writer closes; the reader sees the end after the
last batch.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, NamedTuple, TypeVar, final

T = TypeVar("T")


class EdgeStatistics(NamedTuple):
    """An edge at one moment, counted in items."""

    limit: int
    owed: int  # put and not yet done
    waiting: int  # put and not yet taken
    closed: bool


@final
class Edge(Generic[T]):
    """A bounded `asyncio.Queue` of batches; its bound counts items until they are done."""

    def __init__(self, limit: int, source: Edge[Any] | None = None) -> None:
        self.limit = limit
        self._source = source
        self._batches: asyncio.Queue[list[T] | None] = asyncio.Queue()
        self._last: list[T] | None = None  # waits still, and so may grow
        self._owed = 0
        self._waiting = 0
        self._closed = self._ended = False
        self._room = asyncio.Event()

    def width(self) -> int:
        """How many items may be under way at once, through all edges that share this credit."""
        return self.limit if self._source is None else self._source.width()

    def demand(self) -> int:
        """How many items may be put now."""
        return self.limit - self._owed

    async def wanted(self) -> int:
        """The demand, as soon as there is any; or, after `wake`, whatever it is."""
        if self._owed >= self.limit:
            self._room.clear()
            await self._room.wait()
        return self.limit - self._owed

    def wake(self) -> None:
        """End a wait for demand, whatever the demand is."""
        self._room.set()

    def offer(self, batch: list[T]) -> None:
        """Put a batch that the demand covers; more than that is a defect in the stage."""
        if self._closed:
            raise RuntimeError("put on a closed edge")
        if not batch:
            return
        if len(batch) > self.limit - self._owed:
            raise RuntimeError(f"{len(batch)} items put where {self.demand()} were asked for")
        self._owed += len(batch)
        self._waiting += len(batch)
        if self._last is None:
            self._last = batch.copy()
            self._batches.put_nowait(self._last)
        else:
            self._last += batch

    async def put(self, batch: list[T]) -> None:
        """Put a batch as room comes up. Cancel: a part of it may have been put."""
        while batch:
            if (room := await self.wanted()) > 0:
                self.offer(batch[:room])
                batch = batch[room:]

    async def get(self) -> list[T] | None:
        """Everything that waits, as one batch; None at the end. Cancel: safe, nothing is taken."""
        if self._ended:
            return None
        first = await self._batches.get()
        batch = list(first or ())
        while first is not None and not self._batches.empty():
            first = self._batches.get_nowait()
            batch += first or ()
        self._ended, self._last = first is None, None
        self._waiting -= len(batch)
        return batch or None

    def shed(self, n: int) -> int:
        """Drop the `n` oldest items that wait; how many there were to drop."""
        dropped = max(0, min(n, self._waiting))
        if dropped == 0:
            return 0
        waiting: list[T] = []
        while not self._batches.empty():
            waiting += self._batches.get_nowait() or ()
        self._last = waiting[dropped:] or None
        if self._last is not None:
            self._batches.put_nowait(self._last)
        if self._closed:
            self._batches.put_nowait(None)
        self._waiting -= dropped
        self.done(dropped)
        return dropped

    def done(self, n: int) -> None:
        """Give credit back for `n` items."""
        self._owed -= n
        self._room.set()
        if self._source is not None:
            self._source.done(n)

    def close(self) -> None:
        """Say that nothing more will be put. Only the writer does. Idempotent."""
        if not self._closed:
            self._closed = True
            self._batches.put_nowait(None)

    def statistics(self) -> EdgeStatistics:
        """Counts for people, dashboards and tests."""
        return EdgeStatistics(self.limit, self._owed, self._waiting, self._closed)

    def __repr__(self) -> str:
        return f"<Edge {self._owed}/{self.limit} owed, {self._waiting} waiting>"

"""What two stages share: a bounded queue of batches, with credit.

Theory of operation. Items go right in batches, because an item at a time costs an event loop five
times as much. What goes left is one integer, the demand: how many items may still be put. Credit
comes back when an item is *done*, not when it is taken, so that demand counts work under way and
not things waiting, and nothing is hoarded. Edges in a row share it: the credit of an edge that has
a `source` is the credit of that source. Only the writer closes; the reader sees the end after the
last batch.

An item that waits for something else than credit may be set aside: it owes nothing meanwhile, and
new items come in. It gets credit again before any new item does. So that a reader does not hoard,
what is set aside beyond a bound counts like what is owed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, NamedTuple, TypeVar, final

T = TypeVar("T")


class EdgeStatistics(NamedTuple):
    """An edge at one moment, counted in items."""

    limit: int
    owed: int  # put and not yet done
    waiting: int  # put and not yet taken
    closed: bool
    aside: int = 0  # taken, and waiting for something else than credit


@final
class Edge(Generic[T]):
    """A bounded `asyncio.Queue` of batches; its bound counts items until they are done."""

    def __init__(self, limit: int, source: Edge[Any] | None = None, aside_limit: int = 0) -> None:
        self.limit = limit
        self.aside_limit = aside_limit
        self._source = source
        self._batches: asyncio.Queue[list[T] | None] = asyncio.Queue()
        self._last: list[T] | None = None  # waits still, and so may grow
        self._owed = 0
        self._waiting = 0
        self._closed = self._ended = False
        self._room = asyncio.Event()
        self._aside = 0
        self._crowd = 0  # of those that are aside, how many there are beyond the bound
        self._returning: deque[asyncio.Future[None]] = deque()

    def width(self) -> int:
        """How many items may be under way at once, through all edges that share this credit."""
        return self.limit if self._source is None else self._source.width()

    def demand(self) -> int:
        """How many items may be put now."""
        return self.limit - self._owed - self._crowd

    async def wanted(self) -> int:
        """The demand, as soon as there is any; or, after `wake`, whatever it is."""
        if self.demand() <= 0:
            self._room.clear()
            await self._room.wait()
        return self.demand()

    def wake(self) -> None:
        """End a wait for demand, whatever the demand is. To be called when the limit has risen."""
        self._let_back()
        self._room.set()

    def offer(self, batch: list[T]) -> None:
        """Put a batch that the demand covers; more than that is a defect in the stage."""
        if self._closed:
            raise RuntimeError("put on a closed edge")
        if not batch:
            return
        if len(batch) > self.limit - self._owed - self._crowd:
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
        if self._returning:
            self._let_back()
        self._room.set()
        if self._source is not None:
            self._source.done(n)

    # -- items that wait for something else

    def set_aside(self) -> None:
        """Owe one item less: one that was taken, and that goes on with `take_back` or `recall`."""
        self._count_aside(1)
        self.done(1)

    async def take_back(self) -> None:
        """Owe such an item again, as soon as there is credit: in order, before new items.

        Cancel: the item stays aside.
        """
        if self._owed < self.limit and not self._returning:
            return self.recall()
        turn = asyncio.get_running_loop().create_future()
        self._returning.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._returning:
                self._returning.remove(turn)
            elif not turn.cancelled():
                self.set_aside()
            raise

    def recall(self) -> None:
        """Owe such an item again at once, whether or not there is credit: it has ended."""
        self._count_aside(-1)
        self._owed += 1

    def _count_aside(self, n: int) -> None:
        self._aside += n
        self._crowd = max(0, self._aside - self.aside_limit)

    def _let_back(self) -> None:
        while self._returning and self._owed < self.limit:
            turn = self._returning.popleft()
            if not turn.done():
                self.recall()
                turn.set_result(None)

    def close(self) -> None:
        """Say that nothing more will be put. Only the writer does. Idempotent."""
        if not self._closed:
            self._closed = True
            self._batches.put_nowait(None)

    def statistics(self) -> EdgeStatistics:
        """Counts for people, dashboards and tests."""
        return EdgeStatistics(self.limit, self._owed, self._waiting, self._closed, self._aside)

    def __repr__(self) -> str:
        return f"<Edge {self._owed}/{self.limit} owed, {self._waiting} waiting>"

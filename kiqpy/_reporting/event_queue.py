"""Events waiting for delivery, apart from settling: a blocked reporter never delays an ack."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, final

from kiqpy._flow.edge import Edge
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy.event import Event


class _Batch(NamedTuple):
    events: list[Event]
    inlet: Edge[Any]
    credit: int


@final
class EventQueue:
    """Batches of events, delivered in order, each with credit that comes back once it is.

    Not bounded by itself: what holds credit back keeps the stages to the left from bringing more.
    It outlives stages that break: events of settled jobs are delivered all the same.
    """

    def __init__(self, dispatcher: ReporterDispatcher) -> None:
        self._dispatcher = dispatcher
        self._batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        self._waiting = 0

    def idle(self) -> bool:
        """Whether all events were delivered."""
        return self._waiting == 0

    def add(self, events: list[Event], inlet: Edge[Any], credit: int) -> None:
        """Deliver these next, then give `inlet` back so much credit."""
        if events or credit:
            self._waiting += 1
            self._batches.put_nowait(_Batch(events, inlet, credit))

    def close(self) -> None:
        """Say that nothing more will be added; `run` then ends."""
        self._batches.put_nowait(None)

    async def run(self) -> None:
        """Deliver until closed and empty."""
        while (batch := await self._batches.get()) is not None:
            await self._dispatcher.emit(batch.events)
            self._waiting -= 1
            batch.inlet.done(batch.credit)

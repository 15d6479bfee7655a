"""What was settled and is not told yet: a reporter that blocks must not hold up what is settled."""

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
    """Batches of events, told in order, each with the credit that comes back when it is told.

    Not bounded by itself: what holds credit back keeps the stages to the left from bringing more.
    It outlives stages that break: what is settled is told.
    """

    def __init__(self, audience: ReporterDispatcher) -> None:
        self._audience = audience
        self._batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        self._untold = 0

    def idle(self) -> bool:
        """Whether all was told."""
        return self._untold == 0

    def add(self, events: list[Event], inlet: Edge[Any], credit: int) -> None:
        """Tell these next, then give `inlet` back so much credit."""
        if events or credit:
            self._untold += 1
            self._batches.put_nowait(_Batch(events, inlet, credit))

    def end(self) -> None:
        """Say that nothing more will be added."""
        self._batches.put_nowait(None)

    async def run(self) -> None:
        """Tell until the end."""
        while (batch := await self._batches.get()) is not None:
            await self._audience.tell(batch.events)
            self._untold -= 1
            batch.inlet.done(batch.credit)

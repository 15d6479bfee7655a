"""What was settled and is not told yet: a reporter that blocks must not hold up what is settled."""

from __future__ import annotations

import asyncio
from typing import Any, final

from kiqpy._flow.edge import Edge
from kiqpy._stages.audience import Audience
from kiqpy.event import Event


@final
class Telling:
    """Batches of events, told in order, each with the credit that comes back when it is told.

    Not bounded by itself: what holds credit back keeps the stages to the left from bringing more.
    """

    def __init__(self, audience: Audience, inlet: Edge[Any]) -> None:
        self._audience, self._inlet = audience, inlet
        self._batches: asyncio.Queue[tuple[list[Event], int] | None] = asyncio.Queue()
        self._untold = 0

    def idle(self) -> bool:
        """Whether all was told."""
        return self._untold == 0

    def add(self, events: list[Event], credit: int) -> None:
        """Tell these next, then give back so much credit."""
        if events or credit:
            self._untold += 1
            self._batches.put_nowait((events, credit))

    def end(self) -> None:
        """Say that nothing more will be added."""
        self._batches.put_nowait(None)

    async def run(self) -> None:
        """Tell until the end."""
        while (batch := await self._batches.get()) is not None:
            events, credit = batch
            await self._audience.tell(events)
            self._untold -= 1
            self._inlet.done(credit)

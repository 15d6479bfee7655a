"""Stages in a row, run together; if one of them raises, all of this row start anew."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, final

from kiqpy._flow.edge import Edge
from kiqpy._flow.stage import Stage
from kiqpy._flow.tasks import together
from kiqpy.clock import Clock

RESTARTS: Final = 3  # so many within WINDOW_S are an accident; one more is a defect
WINDOW_S: Final = 30.0


class StageLink(NamedTuple):
    """A stage and the edges on its two sides."""

    stage: Stage
    inlet: Edge[Any] | None
    outlet: Edge[Any] | None


@final
class Chain:
    """Runs the stages that `build` makes until they end by themselves, from left to right.

    When a stage raises, `give_back` returns what the stages had in hand, `on_restart(error, n)` is
    called, and `build` makes new stages. After three restarts within 30 s `run` raises.
    """

    def __init__(
        self,
        build: Callable[[], Sequence[StageLink]],
        give_back: Callable[[], Awaitable[None]],
        on_restart: Callable[[BaseException, int], None],
        clock: Clock,
    ) -> None:
        self._build = build
        self._give_back = give_back
        self._on_restart = on_restart
        self._clock = clock
        self._breaks: deque[float] = deque()

    async def run(self) -> None:
        while True:
            links = self._build()
            try:
                return await together([partial(link.stage.run, *link[1:]) for link in links])
            except Exception as error:
                await self._after_break(error)

    async def _after_break(self, error: BaseException) -> None:
        now = self._clock.monotonic()
        self._breaks.append(now)
        while now - self._breaks[0] > WINDOW_S:
            self._breaks.popleft()
        if len(self._breaks) > RESTARTS:
            raise error
        await self._give_back()
        self._on_restart(error, len(self._breaks))
        await asyncio.sleep(0)

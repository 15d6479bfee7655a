"""Moves due jobs from the schedule and retry sets into their queues."""

from __future__ import annotations

import logging
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.store import Maintenance

_MAX_JOBS: Final = 100
_log = logging.getLogger("kiqpy")
SPACING_S: Final = 0.01  # what is due within it is promoted together: no command for each job


@final
class Promoter(Loop):
    """Moves due jobs into their queues; sleeps until the next one, `poll_s` at the most.

    So what others put off meanwhile is up to `poll_s` late. It is woken for what this process puts
    off itself.
    """

    name = "promote"

    def __init__(self, store: Maintenance, poll_s: float) -> None:
        self._store = store
        self._poll_s = poll_s

    async def tick(self) -> float:
        promotion = await self._store.promote(_MAX_JOBS)
        if promotion.set_back_s:
            _log.warning(
                "the server's clock was set back by %.0f s: what waits in schedule and retry set "
                "starts that much later; periodics go on at their next tick",
                promotion.set_back_s,
            )
        next_in_s = promotion.next_in_s
        if next_in_s is None:
            return self._poll_s
        return min(self._poll_s, next_in_s and max(SPACING_S, next_in_s))

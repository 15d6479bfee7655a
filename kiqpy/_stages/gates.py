"""What is asked before a job is performed, and may keep it from being performed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import final

from kiqpy._stages.consumer import Run
from kiqpy.job import Job
from kiqpy.outcome import Outcome

# An outcome ends the run there; None lets it go on. A check takes nothing and changes nothing but
# what concerns this job: all checks are asked again whenever a gate has waited.
JobCheck = Callable[[Job], Outcome | None]

# Asked once for each run, after the checks. A gate may wait, by answering with an awaitable, and
# may take something for the run, which is given back by what it passes to `Run.hold`.
Gate = Callable[[Run], Outcome | Awaitable[Outcome | None] | None]


@final
class Slots:
    """A slot for each run, which holds it until the job's code has ended. Fit to be a gate."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many runs wait for a slot now."""
        return len(self._waiting)

    def __call__(self, run: Run) -> Awaitable[None] | None:
        if self.taken >= self.limit:
            return self._wait(run)
        self.taken += 1
        run.hold(self._release)
        return None

    async def _wait(self, run: Run) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # it had got the slot
                self._release()
            raise
        run.hold(self._release)

    def _release(self) -> None:
        """Hand the slot to the run that has waited longest, so that no newer one can take it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

"""`max_concurrency`: so many jobs of one worker run at a time in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import final

from kiqpy._extensions.extension import Extension, Host
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate


@final
class WorkerSlots(Extension):
    """A gate for each worker that has the option; the worker's names share its slots."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._gates: dict[Spec, SlotsGate] = {}

    def gates(self, spec: Spec) -> Sequence[Gate]:
        if spec.given.max_concurrency is None:
            return ()
        if spec not in self._gates:
            self._gates[spec] = SlotsGate(spec.given.max_concurrency)
        return (self._gates[spec],)


@final
class SlotsGate:
    """Takes a slot for the run, until the job's code has ended; waits for one, first come first."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __call__(self, run: Run) -> Awaitable[None] | None:
        if self._free <= 0:
            return self._wait(run)
        self._free -= 1
        run.hold(self._release)
        return None

    async def _wait(self, run: Run) -> None:
        turn = asyncio.get_running_loop().create_future()
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
        """The slot goes straight to who waits longest: nobody comes between."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn.set_result(None)
        self._free += 1

"""Interrupts running jobs that were cancelled anywhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol, final

from kiqpy._flow.loop import Loop
from kiqpy.store import Source

_LOOK_S: Final = 0.8  # so that a running job is interrupted within a second


class RunningJobs(Protocol):
    """The part that runs jobs and can interrupt them."""

    def runs(self) -> Collection[object]: ...

    def cancel(self, cancelled: dict[str, bool]) -> None: ...


@final
class Canceller(Loop):
    """Interrupts running jobs that were cancelled anywhere; asks nothing while nothing runs.

    Jobs that are claimed later are known to be cancelled by the fetch that claims them.
    """

    name = "cancel"

    def __init__(self, store: Source, pipelines: RunningJobs) -> None:
        self._store = store
        self._pipelines = pipelines

    async def tick(self) -> float:
        if self._pipelines.runs():
            await self._store.refresh_cancelled()
            if self._store.cancelled:
                self._pipelines.cancel(self._store.cancelled)
        return _LOOK_S

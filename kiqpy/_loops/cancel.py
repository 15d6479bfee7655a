"""Running jobs that were cancelled anywhere are interrupted here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.store import Source

_LOOK_S: Final = 0.8  # a cancel is heard within a second


@final
class Canceller(Loop):
    """Interrupts running jobs that were cancelled anywhere; asks nothing while nothing runs.

    Jobs that are claimed later are known to be cancelled by the fetch that claims them.
    """

    name = "cancel"

    def __init__(
        self,
        store: Source,
        running: Callable[[], Collection[object]],
        cancel: Callable[[dict[str, bool]], None],
    ) -> None:
        self._store, self._running, self._cancel = store, running, cancel

    async def tick(self) -> float:
        if self._running():
            await self._store.look()
            if self._store.cancelled:
                self._cancel(self._store.cancelled)
        return _LOOK_S

"""Numbers the rescues of a process, and asks again what became of those without a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import final

from kiqpy.errors import StoreRefused, StoreUnavailable
from kiqpy.store import Rescued
from kiqpy.store._backend import Backend, Orphan, Suspect
from kiqpy.store._orphans import rescued_of
from kiqpy.store._put_off import PutOffJobs


@final
class Rescues:
    """Moves orphans back, and adds each one that has moved to `rescued` as soon as that is known.

    The backend keeps its last reply to a process. So a number that is sent again moves nothing
    that has moved already, and still learns what that was.
    """

    def __init__(self, backend: Backend, put_off: PutOffJobs) -> None:
        self._backend = backend
        self._put_off = put_off
        self._sequence = 0
        self._lost: dict[int, tuple[Suspect, Sequence[Orphan]]] = {}  # without a reply

    async def ask_again(self, rescued: list[Rescued]) -> None:
        """Learn what became of the rescues that no reply came to."""
        while self._lost:
            sequence, (suspect, orphans) = self._lost.popitem()
            with suppress(StoreRefused):  # nothing moved: they are found once more
                await self._send(sequence, suspect, orphans, rescued)

    async def move_back(
        self,
        suspect: Suspect,
        orphans: Sequence[Orphan],
        rescued: list[Rescued],
        refusals: list[StoreRefused],
    ) -> None:
        """Move all of them; or, where a key of another type is in the way of some, the others."""
        self._sequence += 1
        try:
            await self._send(self._sequence, suspect, orphans, rescued)
        except StoreRefused as error:
            if len(orphans) <= 1:
                refusals.append(error)
                return
            for orphan in orphans:
                await self.move_back(suspect, [orphan], rescued, refusals)

    async def _send(
        self,
        sequence: int,
        suspect: Suspect,
        orphans: Sequence[Orphan],
        rescued: list[Rescued],
    ) -> None:
        try:
            moved = await self._backend.rescue(suspect, orphans, sequence)
        except (StoreUnavailable, asyncio.CancelledError):
            self._lost[sequence] = (suspect, orphans)
            raise
        back = [orphan for orphan in orphans if orphan.delivery in moved]
        rescued += [rescued_of(orphan, suspect.queue) for orphan in back]
        self._put_off.rescued(orphan.in_s for orphan in back)

"""Sends frames; one that the store can't take is withdrawn, and divided until the culprit is alone.

A frame whose answer is missing may have been stored, or may yet arrive. So before its jobs are sent
under another number, the store must confirm that it will never be stored.
"""

from __future__ import annotations

from typing import Final, final

from kiqpy._flow.pause import ExponentialBackoff
from kiqpy._intake.bisection import Bisection
from kiqpy._intake.buffer import size_of
from kiqpy.clock import Clock
from kiqpy.errors import StoreError, StoreRefused, StoreUnavailable
from kiqpy.store import Frame, FrameWithdrawn, HungUp, Intake, OutgoingJob, Pushed

_MIN_BACKOFF_S: Final = 0.001


@final
class Sender:
    """Sends one frame at a time to a store; `first_s`: the first pause between two tries."""

    def __init__(self, store: Intake, clock: Clock, first_s: float) -> None:
        self._store = store
        self._bisection = Bisection()
        self._backoff = ExponentialBackoff(clock, max(first_s, _MIN_BACKOFF_S), 1.5)

    @property
    def max_jobs(self) -> int:
        """How many jobs the next frame may have."""
        return self._bisection.max_jobs

    async def pause(self) -> None:
        """Wait before the frame is sent again."""
        await self._backoff.pause()

    async def send(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        """Send a frame once. None: it is withdrawn; its jobs must be sent in frames of `max_jobs`.

        Raises: StoreUnavailable: send the same frame again, after a pause.
        Cancel: as if no answer had come.
        """
        try:
            results = await self._store.push(frame)
        except FrameWithdrawn:  # the reply to that was lost
            return None
        except HungUp as error:
            if not self._bisection.hung_up():
                raise
            return await self._doubt(frame, error)
        except StoreRefused as error:
            return await self._doubt(frame, error)
        return self._answered(results)

    def _answered(self, results: list[Pushed]) -> list[Pushed]:
        self._bisection.answered(len(results))
        self._backoff.reset()
        return results

    async def _doubt(self, frame: Frame[OutgoingJob], error: StoreError) -> list[Pushed] | None:
        """Find out whether the frame's jobs are why it fails, or the store takes nothing at all."""
        try:
            stored = await self._store.withdraw(frame)
        except StoreUnavailable:
            if isinstance(error, HungUp):
                self._bisection.away()
            raise
        except StoreRefused as refusal:
            return _refused(frame, error if isinstance(error, StoreRefused) else refusal)
        return await self._blame(frame, error) if stored is None else self._answered(stored)

    async def _blame(self, frame: Frame[OutgoingJob], error: StoreError) -> list[Pushed] | None:
        """Refuse what is alone in its withdrawn frame; divide the jobs of any other."""
        if len(frame.items) > 1 and not frame.atomic:
            self._bisection.divide(len(frame.items))
        elif self._bisection.convicts(refused=isinstance(error, StoreRefused)):
            self._backoff.reset()
            return _refused(frame, error)
        else:
            await self._backoff.pause()
        return None


def _refused(frame: Frame[OutgoingJob], error: StoreError) -> list[Pushed]:
    text = str(error)
    if isinstance(error, HungUp):
        text = (
            f"the server hangs up on these {size_of(frame.items):,} bytes, and answers others "
            f"({text}): its client-query-buffer-limit or proto-max-bulk-len may be lower"
        )
    return [Pushed("refused", text)] * len(frame.items)

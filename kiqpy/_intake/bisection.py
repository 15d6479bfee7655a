"""Which job of a frame the store can't take: frames get smaller until that job is alone."""

from __future__ import annotations

from typing import Final, final

from kiqpy._intake.buffer import FRAME_JOBS

_HANG_UPS: Final = 3  # of a whole frame, until its jobs are doubted: connections end for any reason
_HANG_UPS_ALONE: Final = 10  # of what can't be divided, until it is refused


@final
class Bisection:
    """How many jobs the next frame may have, as frames are answered, refused or hung up on.

    The store must have withdrawn a frame before its jobs are sent again in smaller ones.
    """

    def __init__(self) -> None:
        self.max_jobs = FRAME_JOBS
        self._doubted = 0  # jobs left of the frame that was divided first
        self._hang_ups = 0  # on one frame, or on what is alone in its frames

    def hung_up(self) -> bool:
        """The store has hung up on a frame; whether it is time to doubt the jobs in it."""
        self._hang_ups += 1
        return self._doubted > 0 or self._hang_ups >= _HANG_UPS

    def away(self) -> None:
        """It does not answer a small call either: that the frame fails says nothing about it."""
        self._hang_ups -= 1

    def answered(self, jobs: int) -> None:
        """The store has taken a frame of so many jobs."""
        self._hang_ups = 0
        if self._doubted > 0:
            self._doubted -= jobs
            if self._doubted <= 0:  # it was none of them
                self._forget()

    def divide(self, jobs: int) -> None:
        """A frame was withdrawn: its jobs go into two or more."""
        self._doubted = max(self._doubted, jobs)
        self._hang_ups = 0
        self.max_jobs = max(1, jobs // 2)

    def convicts(self, *, refused: bool) -> bool:
        """Whether what can't be divided is to blame; if so, larger frames may be sent again."""
        if not refused and self._hang_ups < _HANG_UPS_ALONE:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        self.max_jobs = FRAME_JOBS
        self._doubted = self._hang_ups = 0

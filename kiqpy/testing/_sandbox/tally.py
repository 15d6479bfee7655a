"""How the runs of a drain ended."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, final

from kiqpy.event import Event, JobAborted, JobDead, JobFailure, JobSnoozed, JobSuccess


class Drained(NamedTuple):
    """Runs that ended so. `failed` counts all failures, those `retried` and `dead` among them."""

    done: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    snoozed: int = 0
    aborted: int = 0


@final
class DrainTally:
    """Counts the events of jobs."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from nothing again."""
        self.error: BaseException | None = None
        self._counts: Counter[str] = Counter()

    def count(self, event: Event) -> None:
        match event:
            case JobSuccess():
                self._counts["done"] += 1
            case JobFailure(error=error, retry_in_s=in_s):
                self._counts["failed"] += 1
                self._counts["retried"] += in_s is not None
                self.error = self.error or error
            case JobDead():
                self._counts["dead"] += 1
            case JobSnoozed():
                self._counts["snoozed"] += 1
            case JobAborted():
                self._counts["aborted"] += 1
            case _:
                pass

    def drained(self) -> Drained:
        return Drained(**self._counts)

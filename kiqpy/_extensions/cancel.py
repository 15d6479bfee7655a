"""Keeps cancelled jobs from running, and interrupts running ones within a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from kiqpy._extensions.extension import Extension
from kiqpy._flow.loop import Loop
from kiqpy._loops.cancel import Canceller
from kiqpy._stages.gates import JobCheck
from kiqpy.job import Job
from kiqpy.outcome import Cancelled
from kiqpy.store import Source


@final
class Cancelling(Extension):
    """Checks a job before it runs; a loop interrupts jobs that are running."""

    def checks(self) -> Sequence[JobCheck]:
        return (check_cancelled(self.host.store),)

    def loops(self) -> Sequence[Loop]:
        return (Canceller(self.host.store, self.host.pipelines),)


def check_cancelled(store: Source) -> JobCheck:
    """Refuses a job on the list of cancelled jobs; each fetch and the loop refresh that list."""

    def check(job: Job) -> Cancelled | None:
        cancelled = store.cancelled
        if cancelled and (keep := cancelled.pop(job.jid, None)) is not None:
            return Cancelled(keep)
        return None

    return check

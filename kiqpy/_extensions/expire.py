"""Keeps expired jobs from running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from kiqpy._extensions.extension import Extension
from kiqpy._stages.gates import JobCheck
from kiqpy.clock import Clock
from kiqpy.job import Job
from kiqpy.outcome import Aborted


@final
class Expiring(Extension):
    """Checks the payload's `expires_at` before each attempt."""

    def checks(self) -> Sequence[JobCheck]:
        return (check_expired(self.host.clock),)


def check_expired(clock: Clock) -> JobCheck:
    """Refuses a job whose `expires_at` has passed on this clock."""

    def check(job: Job) -> Aborted | None:
        if "expires_at" in job.payload:
            expires_at = job.expires_at
            if expires_at is not None and expires_at <= clock.now():
                return Aborted("expired")
        return None

    return check

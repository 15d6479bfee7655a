"""What the consumer hands to the settler: a claim and how its run ended."""

from __future__ import annotations

from typing import NamedTuple

from kiqpy._rules.decide import Rules
from kiqpy.job import Claim, Job
from kiqpy.outcome import Outcome


class Settlement(NamedTuple):
    """`job` is None when its bytes could not be read. `ended_at`: epoch seconds."""

    claim: Claim
    job: Job | None
    outcome: Outcome
    rules: Rules
    took_s: float
    ended_at: float

    def waited_s(self) -> float | None:
        """From the push to the queue until the run began; None if the push left no time."""
        pushed_at = self.job.enqueued_at if self.job is not None else None
        return None if pushed_at is None else max(0.0, self.ended_at - self.took_s - pushed_at)

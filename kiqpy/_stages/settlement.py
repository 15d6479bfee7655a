"""What the consumer hands to the reporter: a claim and how its run ended."""

from __future__ import annotations

from typing import NamedTuple

from kiqpy.job import Claim, Job
from kiqpy.outcome import Outcome
from kiqpy.policy import Rules


class Settlement(NamedTuple):
    """`job` is None when its bytes could not be read; `waited_s` when nobody knows."""

    claim: Claim
    job: Job | None
    outcome: Outcome
    rules: Rules
    took_s: float
    waited_s: float | None

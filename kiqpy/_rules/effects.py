"""Which effects a job's fate has. Pure: each capability adds a rule of its own, none knows another.

A rule is asked only about jobs whose payload has its field, so a job that uses no capability costs
one look at its payload for each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kiqpy._rules import unique
from kiqpy.job import Job
from kiqpy.outcome import Effects, Fate


class EffectsOf(NamedTuple):
    """The effects that jobs with `field` in their payload have: `choose(job, fate, now)`."""

    field: str
    choose: Callable[[Job, Fate, float], Effects]


DEFAULT_EFFECTS: Final = (EffectsOf("unique_token", unique.effects),)


def choose_effects(job: Job, fate: Fate, now: float, rules: Sequence[EffectsOf]) -> Effects:
    """All effects of what becomes of the job, in the order of the rules."""
    found: Effects = ()
    for rule in rules:
        if rule.field in job.payload:
            found += rule.choose(job, fate, now)
    return found

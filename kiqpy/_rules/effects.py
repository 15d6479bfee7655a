"""Chooses the effects of what becomes of a job. Pure; each capability adds a rule of its own.

A rule is asked only about jobs whose payload has its field. So a job that uses no capability costs
one lookup for each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kiqpy._rules import lanes, unique
from kiqpy.job import Job
from kiqpy.outcome import Effects, Fate


class EffectsOf(NamedTuple):
    """A rule: `choose(job, fate, now)` returns the effects of a job whose payload has `field`."""

    field: str
    choose: Callable[[Job, Fate, float], Effects]


DEFAULT_EFFECTS: Final = (
    EffectsOf("unique_token", unique.effects),
    EffectsOf(lanes.FIELD, lanes.effects),
)


def choose_effects(job: Job, fate: Fate, now: float, rules: Sequence[EffectsOf]) -> Effects:
    """The effects of a job's fate, in the order of the rules."""
    found: Effects = ()
    for rule in rules:
        if rule.field in job.payload:
            found += rule.choose(job, fate, now)
    return found

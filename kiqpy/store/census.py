"""What is asked of a store by an operator: what there is, all of it bounded, and acts upon it."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from kiqpy.job import Job

Place = Literal["schedule", "retry", "dead"]


class Entry(NamedTuple):
    """One job at rest, with its score where the place has scores."""

    job: Job | None
    raw: bytes
    score: float | None = None


class Census(Protocol):
    """To look and to act; every page is bounded, every act may be repeated."""

"""What is asked of a store by an operator: what there is, all of it bounded, and acts upon it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from kiqpy.errors import DecodeError
from kiqpy.job import Job, decode

Place = Literal["schedule", "retry", "dead"]


class Entry(NamedTuple):
    """One job at rest, with its score where the place has scores; no `job`: unreadable bytes."""

    job: Job | None
    raw: bytes
    score: float | None = None


def readable(raw: bytes) -> Job | None:
    """The job in `raw`, if there is one."""
    try:
        return decode(raw)
    except DecodeError:
        return None


def entry(raw: bytes, score: float | None = None) -> Entry:
    """`raw` with what can be read of it."""
    return Entry(readable(raw), raw, score)


class Census(Protocol):
    """To look and to act; every page is bounded, every act may be repeated."""

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        """Length of each named queue, and of schedule, retry and dead under those names."""
        ...

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        """Entries of a set by rank, soonest (lowest score) first, or `last_first`."""
        ...

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        """Jobs of a queue, next one first, or the newest first."""
        ...

"""The frozen rows that operators see. Instants are epoch seconds, durations end in `_s`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kiqpy._payload.json import unpack_lines
from kiqpy.errors import ArgumentError, DecodeError, suggest
from kiqpy.job import Job, decode, seconds
from kiqpy.store.census import Entry

PLACES: Final[Mapping[str, str]] = {
    "retry": "retry",
    "scheduled": "schedule",
    "schedule": "schedule",
    "dead": "dead",
}
_PUBLIC_NAMES: Final = {"schedule": "scheduled"}


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job where it was seen: `place` is "scheduled", "retry", "dead", "queue:NAME", "running".

    `at`: when it is due (scheduled, retry), died (dead) or was started (running). `job` is None if
    the bytes in `raw` are no job; then all that could be read from it is empty.
    """

    place: str
    job: Job | None = field(compare=False)
    raw: bytes
    at: float | None = None

    @property
    def jid(self) -> str:
        return self.job.jid if self.job else ""

    @property
    def class_(self) -> str:
        return self.job.class_ if self.job else ""

    @property
    def args(self) -> list[Any]:
        return self.job.args if self.job else []

    @property
    def queue(self) -> str:
        """Where it is or will be queued."""
        if self.place.startswith("queue:"):
            return self.place.removeprefix("queue:")
        return self.job.queue if self.job else ""

    @property
    def error_class(self) -> str:
        """Of its last failure, or "kiqpy.DecodeError" if the bytes are no job."""
        return self._text("error_class") if self.job else "kiqpy.DecodeError"

    @property
    def error_message(self) -> str:
        """What its last failure said, or why the bytes are no job."""
        return self._text("error_message") if self.job else unreadable(self.raw)

    @property
    def error_backtrace(self) -> list[str]:
        """The stack of its last failure, innermost frame first; [] if none was kept."""
        return unpack_lines(self._field("error_backtrace"))

    @property
    def retry_count(self) -> int | None:
        """Failures so far less one; None before the first."""
        count = self._field("retry_count")
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    @property
    def enqueued_at(self) -> float | None:
        return seconds(self._field("enqueued_at"))

    @property
    def created_at(self) -> float | None:
        return seconds(self._field("created_at"))

    @property
    def failed_at(self) -> float | None:
        """When it failed first."""
        return seconds(self._field("failed_at"))

    @property
    def retried_at(self) -> float | None:
        """When it failed last, if more than once."""
        return seconds(self._field("retried_at"))

    def _field(self, name: str) -> Any:
        return self.job.payload.get(name) if self.job else None

    def _text(self, name: str) -> str:
        value = self._field(name)
        return "" if value is None else str(value)


class Page(NamedTuple):
    """A page of jobs; `total` jobs are there in all. `number` begins at 1."""

    rows: Sequence[JobRow]
    number: int
    per: int
    total: int

    @property
    def pages(self) -> int:
        """How many there are, at least one."""
        return max(1, -(-self.total // self.per))


class Found(NamedTuple):
    """The result of a search. Not `complete`: it gave up after it had read `searched` entries."""

    rows: Sequence[JobRow]
    searched: int
    complete: bool

    @property
    def row(self) -> JobRow | None:
        """The first that was found."""
        return self.rows[0] if self.rows else None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """How many of the named jobs were moved, and which were not found.

    `gone`: it was run, or another operator moved it. `unreadable`: can only be deleted or
    killed, and stays where it is. Not `complete`: the search for `missing` gave up early.
    """

    done: int = 0
    gone: int = 0
    unreadable: int = 0
    missing: tuple[str, ...] = ()
    complete: bool = True

    def __add__(self, other: BulkResult) -> BulkResult:
        return BulkResult(
            done=self.done + other.done,
            gone=self.gone + other.gone,
            unreadable=self.unreadable + other.unreadable,
            missing=self.missing + other.missing,
            complete=self.complete and other.complete,
        )


class Day(NamedTuple):
    """What was processed, failures included, on one day (YYYY-MM-DD, UTC)."""

    date: str
    processed: int
    failed: int


class QueueCounts(NamedTuple):
    """What was processed, failures included, of one queue."""

    queue: str
    processed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of all jobs and processes. `days`: today first."""

    processed: int
    failed: int
    enqueued: int
    scheduled: int
    retry: int
    dead: int
    processes: int
    busy: int
    days: tuple[Day, ...]
    queues: tuple[QueueCounts, ...]


def unreadable(raw: bytes) -> str:
    """Why these bytes are no job; "" if they are one."""
    try:
        decode(raw)
    except DecodeError as error:
        return str(error)
    return ""


def where(place: str) -> str:
    """The store's name of a place that a user names; ArgumentError with the nearest that is one.

    A queue may have any name here, for other programs have theirs: see `known_place`.
    """
    if place in PLACES:
        return PLACES[place]
    kind, colon, name = place.partition(":")
    if colon and kind == "queue":
        return f"queue:{name}"
    hint = suggest(place, PLACES) or f"for a queue say 'queue:{place}'"
    raise ArgumentError(
        f"there is no place {place!r}; {hint} Known: retry, scheduled, dead, queue:NAME"
    )


def shown(place: str) -> str:
    """The public name of a place of the store."""
    return _PUBLIC_NAMES.get(place, place)


def row(place: str, entry: Entry) -> JobRow:
    """An entry of the store's `place`."""
    return JobRow(shown(place), entry.job, entry.raw, entry.score)

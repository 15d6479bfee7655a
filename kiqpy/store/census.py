"""The part of a store for operators: inspect and change jobs, queues and processes.

Every listing is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from kiqpy._payload.json import encode, parse
from kiqpy.errors import ArgumentError, DecodeError
from kiqpy.job import Job, decode
from kiqpy.outcome import Effects

Place = Literal["schedule", "retry", "dead"]
PLACES: Final[tuple[Place, ...]] = ("schedule", "retry", "dead")
PROCESS_FIELDS: Final = ("info", "busy", "beat", "quiet", "rss", "rtt_us", "concurrency")
CANCELS_KEPT_S: Final = 7 * 86_400.0
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


def counted(queue: str) -> str:
    """Under which name a queue's jobs are counted: one like a day's would be Sidekiq's history."""
    return f"queue:{queue}" if _DAY.fullmatch(queue) else queue


class Entry(NamedTuple):
    """A job in a queue or a set, with its score in a set. `job` None: `raw` is unreadable."""

    job: Job | None
    raw: bytes
    score: float | None = None


class QueueRow(NamedTuple):
    """A queue. `latency_s`: how long its oldest job has waited; None: that job is unreadable."""

    name: str
    size: int
    latency_s: float | None
    paused: bool


class SearchPage(NamedTuple):
    """A page of a search. `looked`: entries compared; `cursor`: the next page's, None: the end."""

    entries: Sequence[Entry]
    looked: int
    cursor: str | None


class Transfer(NamedTuple):
    """Where an entry goes: with new bytes to a queue or the dead set, or away (deleted)."""

    member: bytes
    to: Literal["queue", "dead", "away"]
    payload: bytes = b""
    queue: str = ""
    jid: str = ""  # if the entry goes to a queue, the cancel of this job is taken back
    effects: Effects = ()


class Counters(NamedTuple):
    """(processed, failed) in total, for each day (YYYY-MM-DD, UTC), and for each queue."""

    total: tuple[int, int]
    days: Mapping[str, tuple[int, int]]
    queues: Mapping[str, tuple[int, int]]


class Process(NamedTuple):
    """What a live process reports about itself. Times are epoch seconds."""

    ident: str
    hostname: str
    pid: int
    tag: str
    version: str
    labels: tuple[str, ...]
    queues: tuple[str, ...]
    concurrency: int
    busy: int
    quiet: bool
    started_at: float | None
    beat_at: float | None
    rss_kb: int
    rtt_us: int


class RunningJob(NamedTuple):
    """A job that a process holds, running since `run_at` in epoch seconds; None: not reported."""

    ident: str
    queue: str
    job: Job | None
    raw: bytes
    run_at: float | None


def readable(raw: bytes) -> Job | None:
    """The job in `raw`, or None if it is unreadable."""
    try:
        return decode(raw)
    except DecodeError:
        return None


def entry(raw: bytes, score: float | None = None) -> Entry:
    """An entry of `raw`, decoded if it is readable."""
    return Entry(readable(raw), raw, score)


def queue_row(name: str, size: int, oldest: bytes | None, paused: bool, now: float) -> QueueRow:
    """A queue as of `now`, in epoch seconds."""
    if oldest is None:
        return QueueRow(name, size, 0.0, paused)
    job = readable(oldest)
    since = job.enqueued_at if job else None
    return QueueRow(name, size, None if since is None else max(0.0, now - since), paused)


def process_row(ident: str, fields: Mapping[str, bytes | None]) -> Process | None:
    """A process from the fields of its hash; None without `info`: for Sidekiq it is gone then."""
    raw = fields.get("info")
    if raw is None:
        return None
    info = _object(raw)
    concurrency = _number(fields.get("concurrency")) or _number(info.get("concurrency"))
    return Process(
        ident=ident,
        hostname=str(info.get("hostname") or ident.split(":")[0]),
        pid=int(_number(info.get("pid"))),
        tag=str(info.get("tag") or ""),
        version=str(info.get("version") or ""),
        labels=_words(info.get("labels")),
        queues=_words(info.get("queues")),
        concurrency=int(concurrency),
        busy=int(_number(fields.get("busy"))),
        quiet=fields.get("quiet") == b"true",
        started_at=_number(info.get("started_at")) or None,
        beat_at=_number(fields.get("beat")) or None,
        rss_kb=int(_number(fields.get("rss"))),
        rtt_us=int(_number(fields.get("rtt_us"))),
    )


def busy_row(ident: str, text: bytes) -> RunningJob:
    """A running job from the JSON that its process wrote about it."""
    work = _object(text)
    raw = _payload(work.get("payload"))
    run_at = _number(work.get("run_at")) or None
    return RunningJob(ident, str(work.get("queue") or ""), readable(raw), raw, run_at)


def _payload(payload: object) -> bytes:
    """Kiq writes the payload of a running job as an object, all others as a text."""
    if isinstance(payload, str):
        return payload.encode(errors="replace")
    try:
        return encode(cast("dict[str, Any]", payload)) if isinstance(payload, dict) else b""
    except ArgumentError:
        return b""


def _object(raw: bytes) -> Mapping[str, Any]:
    found = parse(raw)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _number(value: object) -> float:
    """A number, or a text as a number; 0.0 for anything else."""
    if isinstance(value, bytes | str | int | float):
        try:
            number = float(value)
        except ValueError:
            return 0.0
        return number if abs(number) < 1e15 else 0.0
    return 0.0


def whole_number(text: bytes | None) -> int:
    """The value of a counter; 0 if it is no number."""
    return int(_number(text))


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, cast("list[object]", value))) if isinstance(value, list) else ()


class Census(Protocol):
    """Inspects and changes what a store holds. After a lost reply every call may be repeated.

    A place is "schedule", "retry", "dead" or "queue:NAME".
    """

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        """The lengths of these queues, and of "schedule", "retry" and "dead"."""
        ...

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        """Entries of a set from rank `start` on, lowest score first, or highest (`last_first`)."""
        ...

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        """Jobs of a queue, the next to run first, or the newest first."""
        ...

    async def by_score(self, place: Place, score: float) -> list[Entry]:
        """Up to 100 entries of a set with exactly this score."""
        ...

    async def search(self, place: str, texts: Sequence[str], cursor: str, count: int) -> SearchPage:
        """Entries that contain one of the texts, among about `count`; begin with cursor "".

        Finds every entry that stays in place. One that moves meanwhile may be missed, or found
        twice.
        """
        ...

    async def queues(self, also: Sequence[str] = ()) -> list[QueueRow]:
        """The queues of the store, and those in `also`, by name; 10,000 at most."""
        ...

    async def transfer(self, place: str, transfers: Sequence[Transfer]) -> list[bool]:
        """Move or delete entries; return False for each that is no longer in place.

        So of two operators only one moves an entry. An atomic step takes 100 entries; of a long
        queue fewer, because the server searches it for each, oldest first: some 60 ms among a
        million jobs, 6 ms among 100,000.
        """
        ...

    async def clear(self, place: str) -> int:
        """Delete all entries of a set or a queue; return how many. Frees no locks."""
        ...

    async def clear_all(self) -> int:
        """Delete all keys of Sidekiq's and kiqpy's in this namespace; return how many."""
        ...

    async def counters(self, days: Sequence[str], queues: Sequence[str]) -> Counters:
        """How many jobs were processed, and how many failed."""
        ...

    async def reset_counters(self) -> None:
        """Set the totals to 0. Days and queues keep their counts."""
        ...

    async def processes(self) -> list[Process]:
        """The live processes, Sidekiq's included, by ident; 10,000 at most."""
        ...

    async def prune(self) -> int:
        """Remove processes without a heartbeat for a minute from the list; return how many."""
        ...

    async def busy(self, idents: Sequence[str]) -> list[RunningJob]:
        """The jobs that these processes ran at their last heartbeats."""
        ...

    async def claimed(self, texts: Sequence[str]) -> list[RunningJob]:
        """The jobs that contain one of the texts, among all that kiqpy's processes hold now.

        Their bytes are exact and `run_at` is None. One that is claimed meanwhile may be missed.
        """
        ...

    async def pause(self, queue: str) -> bool:
        """Let no process claim jobs of the queue. False: it was paused already."""
        ...

    async def resume(self, queue: str) -> bool:
        """End a pause. False: the queue was not paused."""
        ...

    async def paused(self) -> list[str]:
        """The paused queues, by name."""
        ...

    async def signal(self, ident: str, name: str) -> bool:
        """Leave a signal for the next heartbeat of a process. False: no such process."""
        ...

    async def cancel(self, jid: str, keep: bool) -> None:
        """Mark a job as cancelled, for seven days. `keep`: in the dead set, else it is deleted.

        Moving the job to a queue by hand takes the mark back.
        """
        ...

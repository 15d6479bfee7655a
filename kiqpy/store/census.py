"""What is asked of a store by an operator: what there is, all of it bounded, and acts upon it."""

from __future__ import annotations

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


class Entry(NamedTuple):
    """One job at rest, with its score where the place has scores; no `job`: unreadable bytes."""

    job: Job | None
    raw: bytes
    score: float | None = None


class QueueRow(NamedTuple):
    """A queue; `latency_s`: for how long its oldest job has been waiting, None: unreadable."""

    name: str
    size: int
    latency_s: float | None
    paused: bool


class SearchPage(NamedTuple):
    """What one page of a search found; `cursor`: where to go on, None: all was looked at."""

    entries: Sequence[Entry]
    looked: int
    cursor: str | None


class Transfer(NamedTuple):
    """An entry as it was seen, and where it goes: with new bytes to a queue or to the dead set."""

    member: bytes
    to: Literal["queue", "dead", "away"]
    payload: bytes = b""
    queue: str = ""
    jid: str = ""  # a mark that it was cancelled is taken back, if it goes to a queue
    effects: Effects = ()


class Counters(NamedTuple):
    """(processed, failed): in all, of each day (YYYY-MM-DD, UTC), of each queue."""

    total: tuple[int, int]
    days: Mapping[str, tuple[int, int]]
    queues: Mapping[str, tuple[int, int]]


class Process(NamedTuple):
    """What a living process says of itself. Instants are epoch seconds."""

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
    """A job that a process says it runs; `run_at`: since then, epoch seconds."""

    ident: str
    queue: str
    job: Job | None
    raw: bytes
    run_at: float | None


def readable(raw: bytes) -> Job | None:
    """The job in `raw`, if there is one."""
    try:
        return decode(raw)
    except DecodeError:
        return None


def entry(raw: bytes, score: float | None = None) -> Entry:
    """`raw` with what can be read of it."""
    return Entry(readable(raw), raw, score)


def queue_row(name: str, size: int, oldest: bytes | None, paused: bool, now: float) -> QueueRow:
    """A queue, seen at `now`."""
    if oldest is None:
        return QueueRow(name, size, 0.0, paused)
    job = readable(oldest)
    since = job.enqueued_at if job else None
    return QueueRow(name, size, None if since is None else max(0.0, now - since), paused)


def process_row(ident: str, fields: Mapping[str, bytes | None]) -> Process | None:
    """A process from its hash; None if it is gone, which Sidekiq sees by the missing `info`."""
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


def busy_row(ident: str, told: bytes) -> RunningJob:
    """A running job from what its process wrote of it."""
    work = _object(told)
    raw = _payload(work.get("payload"))
    run_at = _number(work.get("run_at")) or None
    return RunningJob(ident, str(work.get("queue") or ""), readable(raw), raw, run_at)


def _payload(payload: object) -> bytes:
    """Kiq writes a running job's payload as an object, all others write its text."""
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
    """A number or the text of one; 0.0 for all else."""
    if isinstance(value, bytes | str | int | float):
        try:
            number = float(value)
        except ValueError:
            return 0.0
        return number if abs(number) < 1e15 else 0.0
    return 0.0


def whole_number(text: bytes | None) -> int:
    """A counter's value, 0 if it is none."""
    return int(_number(text))


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, cast("list[object]", value))) if isinstance(value, list) else ()


class Census(Protocol):
    """To look and to act. Every page is bounded; every act may be repeated after a lost reply.

    A place is "schedule", "retry", "dead" or "queue:NAME".
    """

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

    async def by_score(self, place: Place, score: float) -> list[Entry]:
        """Up to 100 entries of a set with exactly this score."""
        ...

    async def search(self, place: str, texts: Sequence[str], cursor: str, count: int) -> SearchPage:
        """Entries that hold one of the texts, of about the next `count`; begin with cursor "".

        What stays in place is found; what moves meanwhile may be missed or found twice.
        """
        ...

    async def queues(self, also: Sequence[str] = ()) -> list[QueueRow]:
        """Every queue ever pushed to, and those in `also`, by name; 10,000 at most."""
        ...

    async def transfer(self, place: str, transfers: Sequence[Transfer]) -> list[bool]:
        """Move or delete entries; False for each that was not there any more.

        So two operators make one copy. 100 in one atomic step; of a long queue fewer, because
        there each is searched for, oldest first: some 60 ms among a million, 6 among 100,000.
        """
        ...

    async def clear(self, place: str) -> int:
        """Drop all of a set or a queue at once; how many. Locks are not freed."""
        ...

    async def clear_all(self) -> int:
        """Drop everything that is Sidekiq's or kiqpy's, in this namespace; how many keys."""
        ...

    async def counters(self, days: Sequence[str], queues: Sequence[str]) -> Counters:
        """What was processed and what failed, in one look."""
        ...

    async def reset_counters(self) -> None:
        """Set the totals to 0; days and queues keep theirs."""
        ...

    async def processes(self) -> list[Process]:
        """The processes that live (10,000 at most), by ident; Sidekiq's too."""
        ...

    async def prune(self) -> int:
        """Take those off the list of processes that have not been heard of for a minute."""
        ...

    async def busy(self, idents: Sequence[str]) -> list[RunningJob]:
        """What these processes said at their last heartbeat that they run."""
        ...

    async def pause(self, queue: str) -> bool:
        """Claim no more jobs of the queue, in the whole cluster. False: it was paused."""
        ...

    async def resume(self, queue: str) -> bool:
        """End a pause. False: there was none."""
        ...

    async def paused(self) -> list[str]:
        """The paused queues, by name."""
        ...

    async def signal(self, ident: str, name: str) -> bool:
        """Leave a signal for a process's next heartbeat. False: there is no such process."""
        ...

    async def cancel(self, jid: str, keep: bool) -> None:
        """Mark a job as cancelled, to be kept in the dead set or forgotten; for seven days.

        The mark is taken back when the job is put into a queue again.
        """
        ...

"""Frames as the arguments of a script's call. This code runs for every job, so it is kept fast."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from kiqpy.errors import StoreRefused
from kiqpy.outcome import Bury, Defer, Done, Effects, Lock, Release, Retry, Verdict
from kiqpy.store import Frame, Heartbeat, OutgoingJob, Pushed
from kiqpy.store._backend import DueMembers, LaneClaim
from kiqpy.store.redis.connections import Arg
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.scripts import effect_names

if TYPE_CHECKING:
    from kiqpy.store.backups import BackupFrame

STATE_TTL_MS: Final = 86_400_000  # how long the replies to a process outlive its last heartbeat
_QUEUED, _SCHEDULED = Pushed("queued"), Pushed("scheduled")
_KINDS: Final[Mapping[type, str]] = {
    Done: "done",
    Retry: "retry",
    Defer: "defer",
    Bury: "bury",
    Release: "release",
}


def due_of(item: OutgoingJob, age_s: float = 0.0) -> tuple[float, str]:
    """When a job is due: epoch seconds and "at", seconds from now and "in", or 0 and "" (at once).

    `age_s`: how long ago the frame was made; a delay counts from then.
    """
    if item.at_s is not None:
        return item.at_s, "at"
    if item.in_s is not None:
        return item.in_s - age_s, "in"
    return 0.0, ""


def queue_of(item: OutgoingJob) -> str:
    """The queue that the store puts a job into at once; "" if it is scheduled."""
    return item.queue if item.at_s is None and item.in_s is None else ""


def push_args(
    items: Iterable[OutgoingJob],
    age_s: float,
    queues: Mapping[str, int],
    locks: Mapping[str, int],
    keys: Keys,
    places: dict[str, int],
) -> list[Arg]:
    """The jobs in order, as `push.lua` reads them: those for one queue in runs, others singly.

    The keys of effects are added to `places`.
    """
    words: list[Arg] = []
    for queue, run in groupby(items, _plain_queue):
        if queue:
            payloads = [item.payload for item in run]
            words.append(f"{queues[queue]} {len(payloads)}")
            words += payloads
        else:
            for item in run:
                words += (_singly(item, age_s, queues, locks), item.payload)
                words += effect_words(item.effects() if queue_of(item) else (), keys, places)
    return words


def _plain_queue(item: OutgoingJob) -> str:
    return queue_of(item) if item.lock is None and not item.lane else ""


def _singly(
    item: OutgoingJob, age_s: float, queues: Mapping[str, int], locks: Mapping[str, int]
) -> str:
    due, how = due_of(item, age_s)
    number = 0 if how else queues[item.queue]
    place, ttl_ms = lock_words(item.lock, locks)
    return f"{number} {how or 'now'} {due!r} {place} {ttl_ms} {item.jid}"


def key_index(names: Iterable[str]) -> dict[str, int]:
    """Each name once with its place; counts from 1, as Lua does."""
    return {name: n for n, name in enumerate(dict.fromkeys(names), 1)}


def utc_date(day: int) -> str:
    """A day that is counted from the epoch, as the daily counters are named."""
    return datetime.datetime.fromtimestamp(day * 86_400, datetime.UTC).strftime("%Y-%m-%d")


def lock_words(lock: Lock | None, locks: Mapping[str, int]) -> tuple[int, int]:
    return (locks[lock.token], int(lock.ttl_s * 1000)) if lock else (0, 0)


def results_of(frame: Frame[OutgoingJob], reply: Sequence[bytes]) -> list[Pushed]:
    """One result for each item; the reply has only those that were not stored as asked."""
    return _corrected([_QUEUED if queue_of(item) else _SCHEDULED for item in frame.items], reply)


def kept_of(frame: BackupFrame, reply: Sequence[bytes]) -> list[Pushed]:
    """One result for each backup; the reply has only those that were not stored."""
    return _corrected([_QUEUED] * len(frame.backups), reply)


def _corrected(results: list[Pushed], reply: Sequence[bytes]) -> list[Pushed]:
    for position, what in zip(reply[1::2], reply[2::2], strict=True):
        state = "duplicate" if what.startswith(b"d") else "refused"
        results[int(position)] = Pushed(state, what[1:].decode(errors="replace"))  # type: ignore[arg-type]
    return results


def is_plain(verdict: Verdict) -> bool:
    """Whether a verdict is a plain ack, which a frame sends as part of a range of ids."""
    return type(verdict) is Done and not verdict.failed and not verdict.effects


def order_of(verdict: Verdict) -> tuple[bool, int]:
    """Sorts released jobs last and newest first: the oldest returns last, and so is next to run."""
    back = isinstance(verdict, Release)
    return back, -verdict.delivery if back else 0


def ranges(ids: Sequence[int]) -> str:
    """Ascending numbers as ranges, such as `7-9,11-11`."""
    spans: list[list[int]] = []
    for n in ids:
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ",".join(f"{first}-{last}" for first, last in spans)


def verdict_words(verdict: Verdict, keys: Keys, places: dict[str, int]) -> list[Arg]:
    """A verdict with its effects; their keys are added to `places`."""
    kind = "failed" if isinstance(verdict, Done) and verdict.failed else _KINDS[type(verdict)]
    payload = b"" if isinstance(verdict, (Done, Release)) else verdict.payload
    in_s = verdict.in_s if isinstance(verdict, (Retry, Defer)) else 0.0
    words: list[Arg] = [kind, verdict.delivery, payload, in_s]
    return words + effect_words(verdict.effects, keys, places)


_TARGETS: Final[Mapping[type, str]] = {Retry: "retry", Defer: "schedule", Bury: "dead"}


def refusal(queue: str, verdicts: Sequence[Verdict], answer: bytes, keys: Keys) -> str:
    """Which keys keep verdicts from being carried out: those that are answered "w"."""
    refused = [v for v, one in zip(verdicts, answer, strict=True) if one == ord("w")]
    places = sorted({_TARGETS.get(type(verdict), f"queue:{queue}") for verdict in refused})
    return (
        f"WRONGTYPE {' and '.join(map(keys.at, places))} can't take the jobs that have ended: "
        "rename or delete what another program has stored under that name"
    )


def due_members(now: float, found: Sequence[bytes | None] | bytes) -> DueMembers:
    """What the script tells of one set: a text if it can't be read."""
    if isinstance(found, bytes):
        return DueMembers(now, (), None, found.decode(errors="replace"))
    upcoming, *members = found
    due = [member for member in members if member is not None]
    return DueMembers(now, due, None if upcoming is None else float(upcoming))


def effect_words(effects: Effects, keys: Keys, places: dict[str, int]) -> list[Arg]:
    """Effects as `lua/shared/effects.lua` reads them. Adds their keys to `places`, from 1 on."""
    words: list[Arg] = [len(effects)]
    for effect in effects:
        if effect.op not in effect_names():  # the script would find out after its first write
            raise StoreRefused(f"no Lua function carries out the effect {effect.op!r}")
        names, args = effect.keys(keys), effect.args()
        words += (effect.op, len(names))
        words += [places.setdefault(name, len(places) + 1) for name in names]
        words += (len(args), *args)
    return words


def lane_words(claims: Iterable[LaneClaim]) -> list[Arg]:
    """Claimed jobs with their lanes, as `heads.lua` reads them."""
    words: list[Arg] = []
    for delivery, lane, jid, at in claims:
        words += (delivery, lane, jid, "" if at is None else at)
    return words


def process_fields(heartbeat: Heartbeat, rtt_us: int) -> dict[str, Arg]:
    """The fields of a process's hash, as Sidekiq's web pages read them."""
    return {
        "info": heartbeat.info,
        "concurrency": heartbeat.concurrency,
        "busy": heartbeat.busy,
        "quiet": "true" if heartbeat.quiet else "false",
        "rss": heartbeat.rss_kb,
        "rtt_us": rtt_us,
    }

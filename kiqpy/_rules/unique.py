"""The locks of unique jobs: their names, how long they hold, and what frees them. Pure.

A lock is `unique:TOKEN` = jid, as Exq writes it. Kiq writes a time instead of the jid, so its locks
name no owner; they count as the job's own until its `unlocks_at`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from kiqpy._declare.checks import MAX_DELAY_S
from kiqpy._declare.options import Across
from kiqpy._payload.json import canonical
from kiqpy.errors import ArgumentError
from kiqpy.job import Job, seconds
from kiqpy.outcome import Effect, ExtendLock, Fate, FreeLock, Lock, TakeLock

_KIQ_TOKEN: Final = re.compile(r"[0-9a-f]{40}")  # SHA-1; kiqpy's own are SHA-256


def token(class_: str, queue: str, key: object, across: Across = "queue") -> str:
    """The name of the lock: equal for jobs with equal keys, and for others by `across`.

    "queue": if class and queue are equal too; "class": if the class is; "all": for all.
    """
    terms = {"queue": [class_, queue, key], "class": [class_, key], "all": [key]}[across]
    return hashlib.sha256(canonical(terms)).hexdigest()


def lock_for(payload: dict[str, Any], now: float, in_s: float) -> Lock | None:
    """The lock that a new job must take, until `ttl_s` after it is due; None: it is not unique.

    Writes `unique_token` and `unlocks_at` into the payload, and takes `unique_across` out.
    Raises: ArgumentError: `unique_for` is no time.
    """
    across = payload.pop("unique_across", "queue")
    wanted, hold_s = payload.get("unique_for"), _hold_s(payload)
    if wanted is None or wanted is False:
        return None
    if hold_s <= 0:
        raise ArgumentError(f"unique_for={wanted!r}: give seconds, more than 0")
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name:
        name = token(payload["class"], payload.get("queue", "default"), payload["args"], across)
    payload["unique_token"], payload["unlocks_at"] = name, now + in_s + hold_s
    return Lock(name, max(0.001, hold_s))


def lock_of(payload: Mapping[str, Any], now: float = 0.0) -> Lock | None:
    """The lock to free when the job ends, and to extend while it is postponed; None: no such lock.

    A lock that only time frees is none. A lock of Kiq's is none after `unlocks_at`, because another
    job may hold it then, and none if the start of the job frees it.
    """
    lock = any_lock(payload)
    if lock is None or payload.get("unique_until") == "expiry":
        return None
    return lock if lock.owned or _still_kiqs(payload, now, until="success") else None


def lock_until_start(payload: Mapping[str, Any], now: float = 0.0) -> Lock | None:
    """The lock to free before the job runs; None: no such lock.

    A lock of Kiq's only before the first run: at a retry, another job may hold it.
    """
    if payload.get("unique_until") != "start":
        return None
    lock = any_lock(payload)
    return lock if lock is None or lock.owned or _still_kiqs(payload, now, until="start") else None


def effects(job: Job, fate: Fate, now: float) -> tuple[Effect, ...]:
    """The effect on the job's lock: it is freed when the job ends, extended while it waits.

    Who moves a job to its queue gives it the lock again, because it may have lost it: at its death,
    at its start, or because the time was over.
    """
    if fate.by == "operator" and fate.to == "queue":
        lock = any_lock(job.payload)
        return (TakeLock(lock, job.jid),) if lock is not None and lock.owned else ()
    lock = _lock_by(job.payload, fate, now)
    if lock is None:
        return ()
    if fate.to in ("gone", "dead"):
        return (FreeLock(lock, job.jid),)
    if lock.owned and (fate.to != "queue" or fate.by == "rescue"):
        return (ExtendLock(lock, job.jid, fate.in_s),)
    return ()


def _lock_by(payload: Mapping[str, Any], fate: Fate, now: float) -> Lock | None:
    if fate.by != "operator":
        return lock_of(payload, now)
    if fate.to == "dead" or fate.outcome is not None:  # killed or cancelled
        return lock_of(payload, now) or lock_until_start(payload, now)
    return any_lock(payload) if fate.unlock else None


def any_lock(payload: Mapping[str, Any]) -> Lock | None:
    """The job's lock, whatever frees it; None: it is not unique."""
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name:
        return None
    by_kiq = payload.get("unique_until", "start") == "start" and _KIQ_TOKEN.fullmatch(name)
    return Lock(name, 0.0, owned=False) if by_kiq else Lock(name, _hold_s(payload))


def _still_kiqs(payload: Mapping[str, Any], now: float, until: str) -> bool:
    ends_at = seconds(payload.get("unlocks_at"))
    if ends_at is not None and ends_at <= now:
        return False
    if until == "start":
        return not payload.get("retry_count")
    return payload.get("unique_until") != "start"


def _hold_s(payload: Mapping[str, Any]) -> float:
    value = payload.get("unique_for")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value <= MAX_DELAY_S else 0.0

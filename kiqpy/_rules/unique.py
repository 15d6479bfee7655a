"""Unique jobs: which lock stands for a job, how long, and who may take it away. Pure.

The lock is `unique:TOKEN` = jid, as Exq writes it. Kiq writes how long it holds in its stead, so
that of its locks nobody knows the owner: they are taken to be the job's until its own has run out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from kiqpy._declare.checks import MAX_LOCK_S
from kiqpy._payload.json import canonical
from kiqpy.errors import ArgumentError
from kiqpy.job import Job, seconds
from kiqpy.outcome import Effect, ExtendLock, Fate, FreeLock, Lock

_KIQS: Final = re.compile(r"[0-9a-f]{40}")  # its tokens are SHA-1, ours are not


def token(class_: str, queue: str, key: object) -> str:
    """The name of the lock: equal for jobs of one class and queue with equal keys."""
    return hashlib.sha256(canonical([class_, queue, key])).hexdigest()


def lock_for(payload: dict[str, Any], now: float, in_s: float) -> Lock | None:
    """The lock a new job must get, held until it is due and `ttl_s` longer.

    Writes `unique_token` and `unlocks_at` into the payload. None for `unique_for` False or None;
    ArgumentError for what is no time.
    """
    wanted, hold_s = payload.get("unique_for"), _hold_s(payload)
    if wanted is None or wanted is False:
        return None
    if hold_s <= 0:
        raise ArgumentError(f"unique_for={wanted!r}: give seconds, more than 0")
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name:
        name = token(payload["class"], payload.get("queue", "default"), payload["args"])
    payload["unique_token"], payload["unlocks_at"] = name, now + in_s + hold_s
    return Lock(name, max(0.001, hold_s))


def lock_of(payload: Mapping[str, Any], now: float = 0.0) -> Lock | None:
    """The lock that must be freed when the job ends, or held on to while it is put off.

    None for a job without one, and for one that only time frees. One of Kiq's is none any more
    when its time is over, for then it may be another job's; nor when the job's start frees it.
    """
    lock = any_lock(payload)
    if lock is None or payload.get("unique_until") == "expiry":
        return None
    return lock if lock.owned or _still_kiqs(payload, now, until="success") else None


def lock_until_start(payload: Mapping[str, Any], now: float = 0.0) -> Lock | None:
    """The lock that must be freed before the job is run.

    One of Kiq's only at the first run: what holds it when the job is retried is another job.
    """
    if payload.get("unique_until") != "start":
        return None
    lock = any_lock(payload)
    return lock if lock is None or lock.owned or _still_kiqs(payload, now, until="start") else None


def effects(job: Job, fate: Fate, now: float) -> tuple[Effect, ...]:
    """What becomes of the job's lock: freed when the job ends, held on to while it is put off."""
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
    if fate.to == "dead":
        return lock_of(payload, now) or lock_until_start(payload, now)
    return any_lock(payload) if fate.unlock else None


def any_lock(payload: Mapping[str, Any]) -> Lock | None:
    """The job's lock, whatever is to free it."""
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name:
        return None
    kiqs = payload.get("unique_until", "start") == "start" and _KIQS.fullmatch(name)
    return Lock(name, 0.0, owned=False) if kiqs else Lock(name, _hold_s(payload))


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
    return float(value) if 0 < value <= MAX_LOCK_S else 0.0

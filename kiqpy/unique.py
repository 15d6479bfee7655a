"""Unique jobs: which lock stands for a job, how long, and who may take it away. Pure.

The lock is `unique:TOKEN` = jid, as Exq writes it. Kiq writes how long it holds in its stead, so
that of its locks nobody knows the owner.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from kiqpy.job import canonical
from kiqpy.outcome import Lock

_KIQS: Final = re.compile(r"[0-9a-f]{40}")  # its tokens are SHA-1, ours are not


def token(class_: str, queue: str, key: object) -> str:
    """The name of the lock: equal for jobs of one class and queue with equal keys."""
    return hashlib.sha256(canonical([class_, queue, key])).hexdigest()


def lock_for(payload: dict[str, Any], now: float, in_s: float) -> Lock | None:
    """The lock a new job must get, held until it is due and `unique_for` longer.

    Writes `unique_token` and `unlocks_at` into the payload.
    """
    hold_s = _hold_s(payload)
    if hold_s <= 0:
        return None
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name:
        name = token(payload["class"], payload.get("queue", "default"), payload["args"])
    payload["unique_token"], payload["unlocks_at"] = name, now + in_s + hold_s
    return Lock(name, max(0.001, in_s + hold_s))


def lock_of(payload: Mapping[str, Any]) -> Lock | None:
    """The lock that must be freed when the job ends, or held on to while it is put off.

    None for a job without one, and for one that only time frees.
    """
    name = payload.get("unique_token")
    if not isinstance(name, str) or not name or payload.get("unique_until") == "expiry":
        return None
    kiqs = payload.get("unique_until", "start") == "start" and _KIQS.fullmatch(name)
    return Lock(name, 0.0, owned=False) if kiqs else Lock(name, _hold_s(payload))


def lock_until_start(payload: Mapping[str, Any]) -> Lock | None:
    """The lock that must be freed before the job is run."""
    return lock_of(payload) if payload.get("unique_until") == "start" else None


def _hold_s(payload: Mapping[str, Any]) -> float:
    value = payload.get("unique_for")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < 1e11 else 0.0

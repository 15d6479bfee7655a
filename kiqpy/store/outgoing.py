"""A job on its way into the store."""

from __future__ import annotations

from typing import NamedTuple

from kiqpy.outcome import Lock


class OutgoingJob(NamedTuple):
    """One job on its way into the store; its bytes are frozen."""

    queue: str
    jid: str
    payload: bytes
    in_s: float | None = None  # due so long after the frame was made
    at_s: float | None = None  # due at this epoch second
    lock: Lock | None = None

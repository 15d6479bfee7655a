"""A job on its way into the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kiqpy.outcome import Lock


class OutgoingJob(NamedTuple):
    """One job on its way into the store; its bytes are frozen."""

    queue: str
    jid: str
    payload: bytes
    in_s: float | None = None  # due so long after the frame was made
    at_s: float | None = None  # due at this epoch second
    lock: Lock | None = None

    def to_row(self) -> tuple[object, ...]:
        """The same in plain values, for `marshal` or a file."""
        return (*self[:-1], self.lock and tuple(self.lock))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> OutgoingJob:
        """The job that `to_row` made this row of."""
        queue, jid, payload, in_s, at_s, lock = row
        return cls(queue, jid, payload, in_s, at_s, lock and Lock(*lock))

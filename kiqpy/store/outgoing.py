"""A job as a client sends it to a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from kiqpy._rules.lanes import EnterLane, LaneOf
from kiqpy.job import LiveArguments
from kiqpy.outcome import Effects, Lock


class OutgoingJob(NamedTuple):
    """One job that a client sends, encoded."""

    queue: str
    jid: str
    payload: bytes
    in_s: float | None = None  # due so many seconds after its frame was made
    at_s: float | None = None  # due at this epoch second
    lock: Lock | None = None
    lane: str = ""  # in which it runs after those before it; "": in none
    live: LiveArguments | None = None  # of a local job; never leaves the process

    def effects(self) -> Effects:
        """What the store does besides when it puts the job into its queue."""
        lane = LaneOf(self.queue, self.lane, self.jid)
        return (EnterLane(lane, new=True),) if self.lane else ()

    def to_row(self) -> tuple[object, ...]:
        """The job in plain values, for `marshal` or a file."""
        return (*self[:5], self.lock and tuple(self.lock), self.lane)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> OutgoingJob:
        """The job of a row that `to_row` has made."""
        queue, jid, payload, in_s, at_s, lock, lane = row
        return cls(queue, jid, payload, in_s, at_s, lock and Lock(*lock), lane)


class Pushed(NamedTuple):
    """The result of one item. `detail`: the jid that holds the lock, or the refusal's reason."""

    state: Literal["queued", "scheduled", "duplicate", "refused"]
    detail: str = ""

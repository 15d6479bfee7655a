"""Lanes of a blocking queue: what becomes of one when something becomes of one of its jobs. Pure.

A lane has at most one head, the one job that may run. It stays the head from when the lane lets it
into the queue until it is gone or dead: while it runs, waits for a retry, is snoozed or rescued.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kiqpy._rules.backoff import own
from kiqpy.job import Job, seconds
from kiqpy.outcome import Cancelled, Effects, Fate, KeyNames

FIELD: Final = "lane"


class LaneOf(NamedTuple):
    """The lane of a job: `queue` and `name`, and the job's jid."""

    queue: str
    name: str
    jid: str

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        """The keys of all effects on lanes."""
        return names.lane(self.queue, self.name)


def lane_of(job: Job, queue: str | None = None) -> LaneOf | None:
    """The lane that a job is in, in its queue or in this one; None: in none."""
    name = job.payload.get(FIELD)
    if not isinstance(name, str) or not name:
        return None
    return LaneOf(job.queue if queue is None else queue, name, job.jid)


def scheduled_at(job: Job) -> float | None:
    """When the job was to run, in epoch seconds; None: at once."""
    return seconds(job.payload.get("lane_at"))


class EnterLane(NamedTuple):
    """Let the job that was just put into its queue wait in its lane, unless it is the head.

    It becomes the head if the lane is idle. `at`: its scheduled time, which orders those that
    wait; None: now. `new`: it can't be the head yet, whatever its jid.
    """

    lane: LaneOf
    at: float | None = None
    new: bool = False

    @property
    def op(self) -> str:
        return "enter_lane"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return self.lane.keys(names)

    def args(self) -> tuple[str | float | int, ...]:
        return self.lane.name, self.lane.jid, "" if self.at is None else self.at, int(self.new)


class NextInLane(NamedTuple):
    """Let the next job of the lane run, if this one was its head."""

    lane: LaneOf

    @property
    def op(self) -> str:
        return "next_in_lane"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return self.lane.keys(names)

    def args(self) -> tuple[str, ...]:
        return self.lane.name, self.lane.jid


class HaltLane(NamedTuple):
    """Let no further job of the lane run, if this one was its head."""

    lane: LaneOf

    @property
    def op(self) -> str:
        return "halt_lane"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return self.lane.keys(names)

    def args(self) -> tuple[str, ...]:
        return self.lane.name, self.lane.jid


class BlockLane(NamedTuple):
    """Note since when the lane waits for a retry of its head."""

    lane: LaneOf

    @property
    def op(self) -> str:
        return "block_lane"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return self.lane.keys(names)

    def args(self) -> tuple[str, ...]:
        return self.lane.name, self.lane.jid


def effects(job: Job, fate: Fate, _now: float) -> Effects:
    """The effect on the job's lane: of its head's end, and of what comes into the queue by itself.

    A head that is retried, snoozed, released or rescued stays the head.
    """
    lane = lane_of(job)
    if lane is None:
        return ()
    if fate.to in ("gone", "dead"):
        return (HaltLane(lane) if _halts(job, fate) else NextInLane(lane),)
    if fate.to == "queue" and fate.by in ("clock", "operator"):
        return (EnterLane(lane, scheduled_at(job) if fate.by == "clock" else None),)
    return (BlockLane(lane),) if fate.to == "retry" else ()


def _halts(job: Job, fate: Fate) -> bool:
    """Whether the lane waits for an operator, because its head has failed for the last time."""
    if fate.to != "dead" or fate.by == "operator" or isinstance(fate.outcome, Cancelled):
        return False
    return own(job, "halt", False) is True

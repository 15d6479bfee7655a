"""The part of a store for operators of lanes: inspect them, pause them, let them go on.

The jobs that wait in a lane are at a place of their own (`lane_place`), where the census inspects
and changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol, cast

from kiqpy.store.census import Place

LaneState = Literal["active", "blocked", "paused", "halted", "idle"]
MAX_LANES_PER_PAGE: Final = 1000


def lane_place(queue: str, lane: str) -> Place:
    """Where the jobs wait that are in this lane of the queue."""
    return cast("Place", f"kiq:lane|{queue}|{lane}")


class LaneRow(NamedTuple):
    """A lane. `head`: the jid of the job that may run, or waits for its retry; "": none may.

    `state`: "active", "blocked" (its head has failed and is retried), "paused" or "halted" (its
    head has failed for the last time), "idle"; `since`: epoch seconds. `waiting`: the jobs behind
    the head, of which the first was due at `first_at`.
    """

    queue: str
    name: str
    head: str
    state: LaneState
    since: float | None
    waiting: int
    first_at: float | None


class LanePage(NamedTuple):
    """A page of lanes; `cursor`: the next page's, None: the end."""

    lanes: Sequence[LaneRow]
    cursor: str | None


def lane_row(
    queue: str, name: str, head: str | None, state: str | None, waiting: int, at: float | None
) -> LaneRow:
    """A row of what a store holds of a lane; `state`: a word and the time since when."""
    word, _, since = (state or "").partition(" ")
    named: LaneState = "idle" if head is None else "active"
    if word in ("blocked", "paused", "halted"):
        named = cast("LaneState", word)
    return LaneRow(queue, name, head or "", named, float(since) if since else None, waiting, at)


class Lanes(Protocol):
    """After a lost reply every call may be repeated."""

    async def page(self, queue: str, cursor: str, count: int) -> LanePage:
        """About `count` lanes of a queue, in no order; begin with cursor "".

        Each lane that is there all the time is found, perhaps twice.
        """
        ...

    async def row(self, queue: str, lane: str) -> LaneRow:
        """One lane."""
        ...

    async def pause(self, queue: str, lane: str) -> bool:
        """Let no further job of the lane start. False: it is paused or halted already."""
        ...

    async def resume(self, queue: str, lane: str) -> bool:
        """Let a paused or halted lane go on. False: it was neither."""
        ...

    async def pass_over(self, queue: str, lane: str, jid: str) -> bool:
        """Let the next job of the lane run, if this jid is its head's, whatever the head does."""
        ...

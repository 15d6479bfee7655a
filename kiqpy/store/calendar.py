"""The part of a store for periodics: enqueue each tick once, and elect one leader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from kiqpy.store.outgoing import OutgoingJob

MAX_AHEAD_S: Final = 3600.0  # a mark further ahead of the server's clock was set by a wrong clock


class TickMark(NamedTuple):
    """The time up to which a periodic's ticks are done, in epoch seconds.

    `ticked`: a tick set it; otherwise the registration, a switch or a tick that was passed over.
    """

    at: float
    ticked: bool


class PeriodicState(NamedTuple):
    """What the store knows of periodics at one instant, `now`, by the store's clock.

    `marks` has those that were ever registered, and `schedules` what they were registered with.
    `switched` has those that an operator has enabled (True) or disabled (False); all others are as
    declared.
    """

    now: float
    marks: Mapping[str, TickMark]
    switched: Mapping[str, bool]
    schedules: Mapping[str, str]


class Tick(NamedTuple):
    """A due time of a periodic, and its job. Without a job the tick is passed over."""

    at: float
    job: OutgoingJob | None


class TickResult(NamedTuple):
    """What became of a tick. `holder`: the jid that holds the lock of a unique job.

    "queued", "scheduled": this call has enqueued the job. "duplicate": an equal unique job exists,
    the tick is done. "past": this tick or a later one was done before, or it was passed over.
    "off": the periodic is disabled.
    """

    state: Literal["queued", "scheduled", "duplicate", "past", "off"]
    holder: str = ""


class Calendar(Protocol):
    """Periodic ticks and leaders, by the store's clock.

    Each verb is one atomic step. After StoreUnavailable the same call may be made again.
    """

    async def state(self, names: Sequence[str]) -> PeriodicState:
        """What the store knows of these periodics."""
        ...

    async def register(self, schedules: Mapping[str, str], ahead_s: float = MAX_AHEAD_S) -> None:
        """Let periodics (name -> schedule) begin now, unless they have a mark of this schedule.

        A mark more than `ahead_s` ahead is set to now, too: the server's clock was wrong.
        """
        ...

    async def tick(self, name: str, ticks: Sequence[Tick], enabled: bool) -> list[TickResult]:
        """Enqueue the ticks that are later than the mark, and move the mark, in one step.

        So a tick is enqueued once, however many processes send it however often. `ticks`: oldest
        first, at most 100, all for one queue. `enabled`: as declared; an operator's switch wins.
        Raises: StoreRefused: nothing has changed.
        """
        ...

    async def switch(self, name: str, enabled: bool, declared: bool) -> bool:
        """Enable or disable a periodic for all processes; False: it was so already.

        Ticks that were due while it was disabled are never enqueued.
        """
        ...

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        """Become or remain the leader of a group for `ttl_s`; False: another process leads."""
        ...

    async def resign(self, group: str = "") -> None:
        """Give up leading a group; does nothing if another process leads."""
        ...

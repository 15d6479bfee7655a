"""What is asked of a store by time: periodic ticks, each enqueued once, and one leader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from kiqpy.store.outgoing import OutgoingJob

AHEAD_S: Final = 3600.0  # a mark so far ahead is one of a wrong clock


class TickMark(NamedTuple):
    """Up to where a periodic's ticks are seen to, in epoch seconds; `ticked`: by a tick itself."""

    at: float
    ticked: bool


class PeriodicState(NamedTuple):
    """What the store knows of periodics, all of one instant: `now`, by the store's clock.

    `marks` lacks who was never noted; `switched` holds those whom an operator has enabled (True)
    or disabled (False), all others are as declared.
    """

    now: float
    marks: Mapping[str, TickMark]
    switched: Mapping[str, bool]


class Tick(NamedTuple):
    """One instant of a periodic, and the job for it; without one it is only passed over."""

    at: float
    job: OutgoingJob | None


class TickResult(NamedTuple):
    """What became of a tick; `holder`: the jid that has a unique job's lock.

    "queued" and "scheduled": the job is enqueued, by this call. "duplicate": a unique job like it
    exists, the tick is done. "past": this tick or a later one had been done. "off": disabled.
    """

    state: Literal["queued", "scheduled", "duplicate", "past", "off"]
    holder: str = ""


class Calendar(Protocol):
    """Periodic ticks and leadership. Time is the store's.

    Each verb is one atomic step, and may be called again after StoreUnavailable.
    """

    async def state(self, names: Sequence[str]) -> PeriodicState:
        """What there is about these periodics; changes nothing."""
        ...

    async def register(self, names: Sequence[str]) -> None:
        """Count the ticks of these from now on, if they were never noted.

        A mark that lies more than an hour ahead is set to now, too: the server's clock was wrong.
        """
        ...

    async def tick(self, name: str, ticks: Sequence[Tick], enabled: bool) -> list[TickResult]:
        """Enqueue ticks (oldest first, 100 at most) that are later than all that were done.

        In one step with the mark that they are done: whoever else tries, before or after, and
        however often this is sent, a tick is enqueued once. `enabled`: as declared, if nobody has
        switched it. All jobs go to one queue. StoreRefused: nothing has changed.
        """
        ...

    async def switch(self, name: str, enabled: bool, declared: bool) -> bool:
        """Enable or disable a periodic for all processes; False if it was so already.

        What became due while it was disabled is not made good.
        """
        ...

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        """Become the leader of a group, or remain it, for `ttl_s`; False: another one is."""
        ...

    async def resign(self, group: str = "") -> None:
        """Be the leader no longer; does nothing to another one."""
        ...

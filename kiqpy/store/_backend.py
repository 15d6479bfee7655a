"""What a store's backend must do, and the values that pass between it and a process's half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kiqpy.outcome import Effects, Lock, Verdict
from kiqpy.store import Frame, Heartbeat, HeartbeatReply, OutgoingJob, Pushed
from kiqpy.store.calendar import Calendar
from kiqpy.store.census import Census, Place
from kiqpy.store.lanes import Lanes

if TYPE_CHECKING:
    from kiqpy.store.backups import Backups


class DueMembers(NamedTuple):
    """The due members of a set at `now`, the store's time; `next_at`: when the next one is due.

    Fewer members than asked for if they are large, one at least. `trouble`: why the set can't be
    read.
    """

    now: float
    members: Sequence[bytes]
    next_at: float | None
    trouble: str = ""


class PromotedJob(NamedTuple):
    """A due member, and its new bytes for `queue`. None: it is unreadable, the dead set gets it."""

    member: bytes
    queue: str | None
    payload: bytes
    effects: Effects = ()


class Orphan(NamedTuple):
    """A job that a dead process held under a delivery id, as it goes back after `in_s` seconds.

    `poison`: it goes to the dead set instead.
    """

    delivery: int
    payload: bytes
    poison: bool
    in_s: float = 0.0
    effects: Effects = ()


class LaneClaim(NamedTuple):
    """A claimed job that names a lane. `at`: its scheduled time in epoch seconds, None: none."""

    delivery: int
    lane: str
    jid: str
    at: float | None = None


class Fetched(NamedTuple):
    """Claimed payloads; `marked_at`: when any job was last cancelled, epoch seconds, 0: never."""

    payloads: Sequence[bytes]
    marked_at: float = 0.0


class Suspect(NamedTuple):
    """A process without a lease, and one of its queues; `confirmed`: the process is dead."""

    ident: str
    queue: str
    confirmed: bool


class Backend(Protocol):
    """Steps that the place of the data carries out wholly or not at all, for one process."""

    ident: str

    @property
    def census(self) -> Census: ...
    @property
    def calendar(self) -> Calendar: ...
    @property
    def backups(self) -> Backups: ...
    @property
    def lanes(self) -> Lanes: ...

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]: ...
    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None: ...
    async def wait(self, queue: str, timeout_s: float) -> bool: ...
    async def unwait(self, queue: str) -> None: ...
    async def fetch(self, queue: str, limit: int, first: int) -> Fetched: ...
    async def heads(self, queue: str, claims: Sequence[LaneClaim]) -> list[bool]: ...
    async def marks(self, after: float) -> list[tuple[str, float]]: ...
    async def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None: ...
    async def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]: ...
    async def settle(self, frame: Frame[Verdict]) -> list[bool]: ...
    async def held(self, ident: str, queue: str) -> dict[int, int]: ...
    async def holding(
        self, ident: str, queue: str, deliveries: Sequence[int]
    ) -> dict[int, bytes]: ...
    async def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]: ...
    async def promote(self, place: Place, moves: Sequence[PromotedJob]) -> int: ...
    async def suspects(self) -> list[Suspect]: ...
    async def rescue(
        self, suspect: Suspect, orphans: Sequence[Orphan], sequence: int
    ) -> set[int]: ...
    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply: ...
    async def leave(self) -> None: ...

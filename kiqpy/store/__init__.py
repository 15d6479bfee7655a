"""The protocol of a store, which is the engine's only way to data, and the values it takes.

A `Store` is one process's half of the protocol. Verbs take and return batches; no type of a backend
appears. Every verb may raise `StoreUnavailable`. The caller may then repeat the same call; the
result is right whether or not the lost call was carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from kiqpy._rules.effects import EffectsOf
from kiqpy.errors import StoreError, StoreRefused, StoreUnavailable
from kiqpy.job import Claim
from kiqpy.outcome import Lock, Verdict
from kiqpy.store.calendar import Calendar
from kiqpy.store.census import Census
from kiqpy.store.lanes import Lanes
from kiqpy.store.outgoing import OutgoingJob as OutgoingJob
from kiqpy.store.outgoing import Pushed as Pushed

if TYPE_CHECKING:
    from kiqpy.store.backups import Backups

T = TypeVar("T")


class Frame(NamedTuple, Generic[T]):
    """Items under one sequence number: a store that gets it twice carries it out once.

    The items of a number never change.
    """

    source: str  # what the sequence belongs to: a client's nonce, or the queue that is settled
    sequence: int
    items: Sequence[T]
    made_at: float = 0.0  # monotonic seconds of the sender
    atomic: bool = False  # store all items, or none


class HungUp(StoreUnavailable):
    """The store ended the connection on which it got this call, instead of answering it."""


class FrameWithdrawn(StoreError):
    """This frame was withdrawn before it came: its items are not stored, and need a new number."""


class VerdictsRefused(StoreRefused):
    """Some verdicts of a frame could not be carried out, for what is at a key; the others were.

    Sending the same frame again carries out what is left, once the key is in order.
    """


class Promotion(NamedTuple):
    """How many due jobs were moved, and how many of them buried because they are unreadable.

    `next_in_s`: until the next one is due; None: there is none. `set_back_s`: by so much the
    store's clock was set back since the last look; 0.0: it was not.
    """

    moved: int
    buried: int
    next_in_s: float | None
    set_back_s: float = 0.0


class Heartbeat(NamedTuple):
    """What a process reports about itself at each heartbeat; `info` is Sidekiq's JSON."""

    info: str
    concurrency: int
    quiet: bool
    busy: int
    work: dict[str, str]  # delivery -> Sidekiq's JSON about a running job
    rss_kb: int
    queues: tuple[str, ...]
    lease_s: float


class HeartbeatReply(NamedTuple):
    """The store's reply: a signal for this process, and how many jobs it holds for each queue."""

    signal: str | None = None
    held: dict[str, int] = {}  # queue -> jobs in the private hash; a default that nobody changes
    inbox: dict[str, int] = {}


class Rescued(NamedTuple):
    """One job of a dead process that went back to its queue or, as poison, to the dead set."""

    jid: str
    queue: str
    recoveries: int
    poison: bool


class RescueResult(NamedTuple):
    """What one rescue pass did. `suspects`: how many must be looked at again within seconds."""

    rescued: Sequence[Rescued]
    suspects: int


class Intake(Protocol):
    """Takes jobs in."""

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        """Store a frame exactly once, however often it is sent; return one result for each item.

        Raises: StoreUnavailable: send the same frame again.  StoreRefused: nothing was stored.
        FrameWithdrawn: it was withdrawn.
        """
        ...

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        """Have a frame without an answer not be stored, now or when it arrives late.

        None: it never will be, and its items may be sent under other numbers. Else it was stored
        before, with these results. The call is small, however large the frame is.
        Raises: StoreUnavailable: call again.  StoreRefused: the store takes nothing from the
        frame's source.
        """
        ...


class Source(Protocol):
    """Where jobs are claimed and settled.

    `cancelled`: the cancelled jobs that this process knows of, jid -> whether the dead set keeps
    them. It has every job that was cancelled before this process claimed it.
    """

    cancelled: dict[str, bool]

    async def refresh_cancelled(self) -> None:
        """Bring `cancelled` up to date."""
        ...

    async def unlock(self, jid: str, lock: Lock) -> None:
        """Free the lock, if the job still holds it."""
        ...

    async def wait(self, queue: str, timeout_s: float) -> bool:
        """Return when the queue may hold a job, after `timeout_s`, or at `unwait`.

        Claims nothing. False: certainly no job has come.
        Cancel: safe; the next `fetch` returns what arrived meanwhile.
        """
        ...

    async def unwait(self, queue: str) -> None:
        """End a wait, and return to the queue what the wait may have received."""
        ...

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        """Claim up to `limit` jobs, oldest first.

        Each moves to this process's private hash in the same step, so a crash loses none. If the
        reply is lost, the next call returns the jobs that it moved.
        Raises: LeaseLost, FetchPaused: nothing moved.  StoreUnavailable: call again.
        """
        ...

    async def heads(self, queue: str, claims: Sequence[Claim]) -> list[Claim]:
        """Those of the claims that are in no lane, or are the heads of their lanes, and may run.

        The others wait in their lanes, and are not claimed any more. Call it before they run.
        Raises: StoreUnavailable: call again, with the same claims.
        """
        ...

    def frame(self, queue: str, verdicts: Sequence[Verdict]) -> Frame[Verdict]:
        """Number a batch of verdicts. Only one frame of a queue may be under way at a time."""
        ...

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        """Carry out verdicts; return False for each claim that this process no longer owns.

        Such a verdict changes nothing (fencing). Sending the frame again is safe.
        Raises: StoreUnavailable: send the same frame again.  VerdictsRefused: some could not be
        carried out; send the same frame again once the key that the message names is in order.
        """
        ...

    def reserve(self, queue: str, count: int) -> int:
        """The first of so many delivery ids that no claim and no backup of the queue has had."""
        ...

    async def holding(self, queue: str) -> list[Claim]:
        """All claims that the store has on record for this process and queue.

        Without those of a fetch that is under way or got no reply: a fetch returns them.
        """
        ...


class Maintenance(Protocol):
    """What happens by time. `effects_of`: rules that choose the effects of rescued and due jobs.

    `lapses`: how often this process was without its lease, by its own clock, before a heartbeat
    took the lease again. Others may have rescued its claims each time.
    """

    effects_of: Sequence[EffectsOf]
    lapses: int

    def on_put_off(self, tell: Callable[[float], object] | None) -> None:
        """Call `tell` with the seconds until it is due whenever this process has put off a job.

        That is a retry, a snooze, a push with a delay or an instant, a rescued job that must wait;
        one call for each step, with its soonest job. None: call nobody.
        """
        ...

    async def promote(self, limit: int) -> Promotion:
        """Move up to `limit` due jobs of the schedule, and of the retry set, to their queues."""
        ...

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Renew the lease and the entry in the list of processes.

        Blocks: the heartbeat's own thread calls it.
        """
        ...

    def trusted(self) -> bool:
        """Whether this process still has its lease, by its own clock."""
        ...

    async def rescue(self) -> RescueResult:
        """Return the jobs of processes that are certainly dead to the heads of their queues."""
        ...

    async def leave(self) -> None:
        """Give up the lease and leave the list of processes. Settle all claims before."""
        ...


class Store(Intake, Source, Maintenance, Protocol):
    """The whole protocol of one process."""

    ident: str

    @property
    def census(self) -> Census: ...

    @property
    def calendar(self) -> Calendar: ...

    @property
    def backups(self) -> Backups: ...

    @property
    def lanes(self) -> Lanes: ...

    async def open(self) -> None:
        """Return when the store has answered.

        Raises: StoreUnavailable, StoreRefused: the message names the fix.
        """
        ...

    async def close(self) -> None:
        """Drop all connections. Idempotent."""
        ...

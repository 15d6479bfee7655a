"""The only way to the outside world: what is asked of a store, and in which values.

A `Store` is one process's half of the protocol. Verbs are batch-first; no backend type appears.
Every verb may raise `StoreUnavailable`: then the same call may be made again, and whatever the
lost call did or did not do comes out right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from kiqpy._rules.effects import EffectsOf
from kiqpy.job import Claim
from kiqpy.outcome import Lock, Verdict
from kiqpy.store.calendar import Calendar
from kiqpy.store.census import Census
from kiqpy.store.outgoing import OutgoingJob as OutgoingJob

T = TypeVar("T")


class Frame(NamedTuple, Generic[T]):
    """Items under one sequence number, never re-composed: sending it twice counts once."""

    source: str  # who numbers: a client's nonce, or the queue whose claims are settled
    sequence: int
    items: Sequence[T]
    made_at: float = 0.0  # monotonic seconds of the sender
    atomic: bool = False  # all items or none


class Pushed(NamedTuple):
    """What became of one item; `detail` is the holder's jid, or why it was refused."""

    state: Literal["queued", "scheduled", "duplicate", "refused"]
    detail: str = ""


class Promotion(NamedTuple):
    """How many due jobs were moved (and buried as unreadable), and when the next one is due."""

    moved: int
    buried: int
    next_in_s: float | None


class Heartbeat(NamedTuple):
    """What a process says of itself at each heartbeat; `info` is Sidekiq's JSON."""

    info: str
    concurrency: int
    quiet: bool
    busy: int
    work: dict[str, str]  # delivery -> Sidekiq's JSON about a running job
    rss_kb: int
    queues: tuple[str, ...]
    lease_s: float


class HeartbeatReply(NamedTuple):
    """What a heartbeat brings back: a signal's name, and what the store holds for each queue."""

    signal: str | None = None
    held: dict[str, int] = {}  # jobs in the private hash; never changed
    inbox: dict[str, int] = {}


class Rescued(NamedTuple):
    """One job of a dead process, back in its queue or, as poison, in the dead set."""

    jid: str
    queue: str
    recoveries: int
    poison: bool


class RescueResult(NamedTuple):
    """What one rescue pass did; `suspects`: processes that must be looked at again soon."""

    rescued: Sequence[Rescued]
    suspects: int


class Intake(Protocol):
    """Where jobs come in."""

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        """Make a frame durable, exactly once however often it is sent; one result each.

        Raises: StoreUnavailable: send the same frame again.  StoreRefused: nothing was stored.
        """
        ...


class Source(Protocol):
    """Where jobs are claimed and settled.

    `cancelled`: jobs that somebody has cancelled (jid -> whether to keep them in the dead set), as
    far as is known here. A job that was cancelled before it was claimed is known in time.
    """

    cancelled: dict[str, bool]

    async def refresh_cancelled(self) -> None:
        """Bring `cancelled` up to date."""
        ...

    async def unlock(self, jid: str, lock: Lock) -> None:
        """Free the lock of a job, if it still has it."""
        ...

    async def wait(self, queue: str, timeout_s: float) -> bool:
        """Return when the queue may hold a job, after `timeout_s`, or at `unwait`. Owns nothing.

        False: surely nothing has come. Cancel: safe; what arrives meanwhile is found by the next
        `fetch`.
        """
        ...

    async def unwait(self, queue: str) -> None:
        """End a wait and give back what it may have received."""
        ...

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        """Claim up to `limit` jobs, oldest first.

        Each moves to this process's private hash in the same step: a crash loses nothing. What a
        lost reply left there is returned by the next call.
        Raises: LeaseLost, FetchPaused: nothing moved.  StoreUnavailable: call again.
        """
        ...

    def frame(self, queue: str, verdicts: Sequence[Verdict]) -> Frame[Verdict]:
        """Number a batch of verdicts. One frame of a queue at a time may be under way."""
        ...

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        """Carry out verdicts; False for each claim that this process no longer owns.

        A False verdict has changed nothing at all (fencing). Sending the frame again is safe.
        """
        ...

    async def holding(self, queue: str) -> list[Claim]:
        """All claims that the store has on record for this process and queue.

        But for those of a fetch that is under way or was lost: fetches tell of them.
        """
        ...


class Maintenance(Protocol):
    """What must happen by time. `effects_of`: what else becomes of the jobs that it rescues."""

    effects_of: Sequence[EffectsOf]

    async def promote(self, limit: int) -> Promotion:
        """Move up to `limit` due jobs of schedule and retry set each into their queues."""
        ...

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Renew lease and membership. Blocks: called from the heartbeat's own thread."""
        ...

    def trusted(self) -> bool:
        """Whether the lease is surely still this process's, by its own clock."""
        ...

    async def rescue(self) -> RescueResult:
        """Return the jobs of processes that are surely dead to the heads of their queues."""
        ...

    async def leave(self) -> None:
        """Give up lease and membership of the process list; claims must be settled before."""
        ...


class Store(Intake, Source, Maintenance, Protocol):
    """All of it, plus its own beginning and end."""

    ident: str

    @property
    def census(self) -> Census: ...

    @property
    def calendar(self) -> Calendar: ...

    async def open(self) -> None:
        """Prove that the store answers. Raises StoreUnavailable or StoreRefused with the fix."""
        ...

    async def close(self) -> None:
        """Drop all connections. Idempotent."""
        ...

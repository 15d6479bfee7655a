"""A process's half of a store: delivery ids, lost replies, and how long it trusts its lease.

The other half is a `Backend`, whose steps are atomic where the data is. What makes lost and late
replies harmless is here, for every backend:

* A fetch reserves its delivery ids before it is sent. If no reply comes, the next fetch first asks
  what those ids hold, and raises the *floor*. The lost fetch is below the floor then, and is
  refused if it arrives after all.
* A settle has a sequence number. The backend answers a repeated number with the reply it has kept,
  so a process never takes its own lost reply for a fence.
* A process trusts its lease from the moment it *sends* a heartbeat, not from the reply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, Protocol

from kiqpy._payload.json import amend
from kiqpy._rules.decide import recover
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf, choose_effects
from kiqpy._rules.shared import buried
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, LeaseLost, StoreUnavailable
from kiqpy.job import Claim, amend_job
from kiqpy.outcome import Effects, Fate, Lock, Verdict
from kiqpy.store import (
    Frame,
    Heartbeat,
    HeartbeatReply,
    OutgoingJob,
    Promotion,
    Pushed,
    Rescued,
    RescueResult,
)
from kiqpy.store._put_off import PutOffJobs
from kiqpy.store.calendar import Calendar
from kiqpy.store.census import CANCELS_KEPT_S, Census, Place, readable

_MAX_PER_STEP = 100  # jobs that one atomic step moves: well under 5 ms of the server's time
_GAP_S = 1.0  # between two jobs that may have killed their process
_MAX_SPREAD_S = 20.0  # between the first and the last of them: most are innocent
_TRUST_MARGIN_S = 2.0  # how long before the lease's end a process stops trusting it


class DueMembers(NamedTuple):
    """The due members of a set at `now`, the store's time; `next_at`: when the next one is due."""

    now: float
    members: Sequence[bytes]
    next_at: float | None


class PromotedJob(NamedTuple):
    """A due member, and its new bytes for `queue`. None: it is unreadable, the dead set gets it."""

    member: bytes
    queue: str | None
    payload: bytes


class Orphan(NamedTuple):
    """A job that a dead process held under a delivery id, as it goes back after `in_s` seconds.

    `poison`: it goes to the dead set instead.
    """

    delivery: int
    payload: bytes
    poison: bool
    in_s: float = 0.0
    effects: Effects = ()


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

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]: ...
    async def wait(self, queue: str, timeout_s: float) -> bool: ...
    async def unwait(self, queue: str) -> None: ...
    async def fetch(self, queue: str, limit: int, first: int) -> Fetched: ...
    async def marks(self, after: float) -> list[tuple[str, float]]: ...
    async def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None: ...
    async def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]: ...
    async def settle(self, frame: Frame[Verdict]) -> list[bool]: ...
    async def holding(self, ident: str, queue: str) -> dict[int, bytes]: ...
    async def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]: ...
    async def promote(self, place: Place, moves: Sequence[PromotedJob]) -> int: ...
    async def suspects(self) -> list[Suspect]: ...
    async def rescue(self, suspect: Suspect, orphans: Sequence[Orphan]) -> set[int]: ...
    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply: ...
    async def leave(self) -> None: ...


class Session:
    """A `Store` over any `Backend`. Not final: the session of a test holds jobs back."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        places: Sequence[Place] = (),
        effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
    ) -> None:
        self.ident = backend.ident
        self.census, self.calendar = backend.census, backend.calendar
        self._backend = backend
        self._clock = clock
        self._places = tuple(places)
        self.effects_of = effects_of
        self._next: defaultdict[str, int] = defaultdict(lambda: 1)
        self._unanswered: dict[str, tuple[int, int]] = {}  # queue -> first and last id of a fetch
        self._sequence: defaultdict[str, int] = defaultdict(int)
        self._trusted_until = float("-inf")
        self.cancelled: dict[str, bool] = {}
        self._marks: dict[str, float] = {}  # jid -> when it was cancelled, in order of time
        self._marked_at = 0.0
        self._put_off = PutOffJobs(clock)

    def on_put_off(self, tell: Callable[[float], object] | None) -> None:
        self._put_off.listener = tell

    async def open(self) -> None:
        await self._backend.open()

    async def close(self) -> None:
        await self._backend.close()

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        results = await self._backend.push(frame, self._clock.monotonic() - frame.made_at)
        self._put_off.pushed(frame)
        return results

    async def wait(self, queue: str, timeout_s: float) -> bool:
        left_s = self._trusted_until - self._clock.monotonic()
        if left_s <= 0:
            raise LeaseLost("this process waits for no job until a heartbeat succeeds")
        return await self._backend.wait(queue, min(timeout_s, left_s))

    async def unwait(self, queue: str) -> None:
        await self._backend.unwait(queue)

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        if queue in self._unanswered and (found := await self._recover(queue)):
            return found
        first = self._next[queue]
        self._next[queue] = first + limit
        self._unanswered[queue] = (first, first + limit - 1)
        try:
            payloads, marked_at = await self._backend.fetch(queue, limit, first)
        except (LeaseLost, FetchPaused):  # replies: nothing moved
            del self._unanswered[queue]
            raise
        if marked_at > self._marked_at:
            with suppress(StoreUnavailable):  # the claims must be returned all the same
                await self.refresh_cancelled()
        del self._unanswered[queue]  # only now: until then `holding` must leave these claims out
        return [Claim(queue, first + n, raw) for n, raw in enumerate(payloads)]

    async def refresh_cancelled(self) -> None:
        while marks := await self._backend.marks(self._marked_at):
            for mark, at in marks:
                if at > self._marked_at:  # another refresh may run at the same time
                    self._marked_at = at
                    self._apply_mark(mark[0], mark[1:], at)
        self._drop_marks(self._marked_at - CANCELS_KEPT_S)

    def _apply_mark(self, kind: str, jid: str, at: float) -> None:
        self.cancelled.pop(jid, None)
        self._marks.pop(jid, None)
        if kind != "=":
            self.cancelled[jid] = kind == "+"
            self._marks[jid] = at

    def _drop_marks(self, before: float) -> None:
        """Keep memory bounded in a process that lives for months."""
        while self._marks and self._marks[jid := next(iter(self._marks))] <= before:
            del self._marks[jid]
            self.cancelled.pop(jid, None)

    async def unlock(self, jid: str, lock: Lock) -> None:
        await self._backend.unlock([(jid, lock)])

    async def _recover(self, queue: str) -> list[Claim]:
        first, last = self._unanswered[queue]
        found = await self._backend.recover(queue, first, last)
        if found:
            with suppress(StoreUnavailable):  # the lost reply had the time of the newest cancel
                await self.refresh_cancelled()
        del self._unanswered[queue]
        return _claims(queue, found)

    def frame(self, queue: str, verdicts: Sequence[Verdict]) -> Frame[Verdict]:
        self._sequence[queue] += 1
        return Frame(queue, self._sequence[queue], tuple(verdicts))

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        kept = await self._backend.settle(frame)
        self._put_off.settled(frame.items)
        return kept

    async def holding(self, queue: str) -> list[Claim]:
        held = await self._backend.holding(self.ident, queue)
        first, last = self._unanswered.get(queue, (1, 0))
        return _claims(queue, {n: raw for n, raw in held.items() if not first <= n <= last})

    async def promote(self, limit: int) -> Promotion:
        moved = buried = 0
        upcoming: list[float] = []
        found = await self._backend.due(self._places, min(limit, _MAX_PER_STEP))
        for place, due in zip(self._places, found, strict=True):
            self._put_off.store_says(due.now)
            moves = [_promoted(member, due.now) for member in due.members]
            if moves:
                moved += await self._backend.promote(place, moves)
                buried += sum(move.queue is None for move in moves)
                upcoming.append(0.0)
            elif due.next_at is not None:
                upcoming.append(max(0.0, due.next_at - due.now))
        return Promotion(moved, buried, min(upcoming, default=None))

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        sent = self._clock.monotonic()
        reply = self._backend.beat(heartbeat)
        self._trusted_until = sent + heartbeat.lease_s - min(_TRUST_MARGIN_S, heartbeat.lease_s / 2)
        return reply

    def trusted(self) -> bool:
        return self._clock.monotonic() < self._trusted_until

    async def rescue(self) -> RescueResult:
        suspects = await self._backend.suspects()
        rescued: list[Rescued] = []
        try:
            for suspect in suspects:
                if suspect.confirmed:
                    await self._rescue(suspect, rescued)
        except StoreUnavailable:
            if not rescued:
                raise
            return RescueResult(rescued, suspects=1)  # report what moved; rescue the rest soon
        return RescueResult(rescued, sum(not suspect.confirmed for suspect in suspects))

    async def _rescue(self, suspect: Suspect, rescued: list[Rescued]) -> None:
        held = await self._backend.holding(suspect.ident, suspect.queue)
        now = self._clock.now()
        orphans = {n: _orphan(n, raw, now) for n, raw in held.items()}
        if "schedule" in self._places:
            _keep_apart(orphans, suspect.queue)
        orphans = {n: self._with_effects(orphan, now) for n, orphan in orphans.items()}
        for ids in _chunks(sorted(held, reverse=True)):  # newest first: the oldest is next to run
            moved = await self._backend.rescue(suspect, [orphans[n] for n in ids])
            rescued += [_rescued(orphans[n], suspect.queue) for n in ids if n in moved]
            self._put_off.rescued(orphans[n].in_s for n in ids if n in moved)

    def _with_effects(self, orphan: Orphan, now: float) -> Orphan:
        job = readable(orphan.payload)
        if job is None:
            return orphan
        back: Literal["queue", "schedule"] = "schedule" if orphan.in_s > 0 else "queue"
        fate = Fate("dead" if orphan.poison else back, "rescue", in_s=orphan.in_s)
        return orphan._replace(effects=choose_effects(job, fate, now, self.effects_of))

    async def leave(self) -> None:
        self._trusted_until = float("-inf")
        await self._backend.leave()


def _claims(queue: str, held: Mapping[int, bytes]) -> list[Claim]:
    return [Claim(queue, delivery, held[delivery]) for delivery in sorted(held)]


def _chunks(ids: list[int]) -> list[list[int]]:
    """The ids in chunks; one empty chunk if there are none: the inbox must be emptied even then."""
    return [ids[n : n + _MAX_PER_STEP] for n in range(0, len(ids), _MAX_PER_STEP)] or [[]]


def _promoted(member: bytes, now: float) -> PromotedJob:
    job = readable(member)
    if job is None:
        return PromotedJob(member, None, buried(member, "default", now))
    return PromotedJob(
        member, job.queue, amend_job(job, member, {"enqueued_at": now}, drop=("at",))
    )


def _orphan(delivery: int, raw: bytes, now: float) -> Orphan:
    payload, poison = recover(raw, readable(raw), now)
    return Orphan(delivery, payload, poison)


def _keep_apart(orphans: dict[int, Orphan], queue: str) -> None:
    """Delay jobs whose process has died more than once, so that they run one after the other.

    One of them may be what kills the process, and the others must not be counted as killers too.
    The second time the oldest runs first, the third time the newest, so a job that ran before the
    culprit in one of them runs after it in the other.
    """
    for count in (2, 3):
        ids = [n for n, orphan in orphans.items() if _count(orphan) == count and not orphan.poison]
        gap_s = min(_GAP_S, _MAX_SPREAD_S / max(1, len(ids)))
        for place, n in enumerate(sorted(ids, reverse=count == 3)):
            if place > 0:
                payload = amend(orphans[n].payload, {"queue": queue})
                orphans[n] = orphans[n]._replace(payload=payload, in_s=place * gap_s)


def _rescued(orphan: Orphan, queue: str) -> Rescued:
    job = readable(orphan.payload)
    jid, count = (job.jid, job.recovered) if job else ("", 0)
    return Rescued(jid, queue, count, orphan.poison)


def _count(orphan: Orphan) -> int:
    job = readable(orphan.payload)
    return job.recovered if job else 0

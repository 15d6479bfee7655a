"""A process's half of a store: delivery ids, lost replies, and how long it trusts its lease.

The other half is a `Backend`, whose steps are atomic where the data is. What makes lost and late
replies harmless is here, for every backend:

* A fetch reserves its delivery ids before it is sent. If no reply comes, the next fetch first asks
  what those ids hold, and raises the *floor*. The lost fetch is below the floor then, and is
  refused if it arrives after all.
* A settle has a sequence number. The backend answers a repeated number with the reply it has kept,
  so a process never takes its own lost reply for a fence.
* A rescue has a sequence number, too. One without a reply is sent again, so what it has moved is
  reported by the next.
* A process trusts its lease from the moment it *sends* a heartbeat, not from the reply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from kiqpy._flow.pages import pages
from kiqpy._rules.clock_steps import ClockSteps
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf, choose_effects
from kiqpy._rules.portable import buried
from kiqpy.clock import Clock
from kiqpy.errors import FetchPaused, LeaseLost, StoreRefused, StoreUnavailable
from kiqpy.job import Claim, amend_job
from kiqpy.outcome import Fate, Lock, Verdict
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
from kiqpy.store._backend import Backend, DueMembers, Orphan, PromotedJob, Suspect
from kiqpy.store._lane_claims import lane_claim
from kiqpy.store._orphans import keep_apart, orphan_of
from kiqpy.store._put_off import PutOffJobs
from kiqpy.store._rescues import Rescues
from kiqpy.store.census import CANCELS_KEPT_S, Place, readable

if TYPE_CHECKING:
    from kiqpy.store.backups import Backups

_MAX_PER_STEP = 100  # jobs that one atomic step moves: well under 5 ms of the server's time
_MAX_BYTES_PER_STEP = 2**20  # of their payloads, but one job at least: a slow link must carry it
_TRUST_MARGIN_S = 2.0  # how long before the lease's end a process stops trusting it


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
        self.lapses = 0
        self.lanes = backend.lanes
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
        self._rescues = Rescues(backend, self._put_off)
        self._clock_steps = ClockSteps()

    def on_put_off(self, tell: Callable[[float], object] | None) -> None:
        self._put_off.listener = tell

    @property
    def backups(self) -> Backups:
        return self._backend.backups

    async def open(self) -> None:
        await self._backend.open()

    async def close(self) -> None:
        await self._backend.close()

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        results = await self._backend.push(frame, self._clock.monotonic() - frame.made_at)
        self._put_off.pushed(frame)
        return results

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        results = await self._backend.withdraw(frame)
        if results is not None:
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
        first = self.reserve(queue, limit)
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

    def reserve(self, queue: str, count: int) -> int:
        first = self._next[queue]
        self._next[queue] = first + count
        return first

    async def heads(self, queue: str, claims: Sequence[Claim]) -> list[Claim]:
        found = [lane_claim(claim) for claim in claims]
        in_lanes = [claim for claim in found if claim is not None]
        if not in_lanes:
            return list(claims)
        may_run = iter(await self._backend.heads(queue, in_lanes))
        pairs = zip(claims, found, strict=True)
        return [claim for claim, of in pairs if of is None or next(may_run)]

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
        held: dict[int, bytes] = {}
        async for page in self._pages_held(self.ident, queue):
            held |= page
        first, last = self._unanswered.get(queue, (1, 0))
        return _claims(queue, {n: raw for n, raw in held.items() if not first <= n <= last})

    async def _pages_held(self, ident: str, queue: str) -> AsyncIterator[dict[int, bytes]]:
        """What a process holds, newest first, in pages that a slow link can carry."""
        sizes = await self._backend.held(ident, queue)
        newest_first = sorted(sizes, reverse=True)
        for page in pages(newest_first, _MAX_PER_STEP, _MAX_BYTES_PER_STEP, sizes.__getitem__):
            yield await self._backend.holding(ident, queue, page)

    async def promote(self, limit: int) -> Promotion:
        parts: list[Promotion] = []
        refused: StoreRefused | None = None
        sent = self._clock.monotonic()
        found = await self._backend.due(self._places, min(limit, _MAX_PER_STEP))
        set_back_s = self._clock_steps.back(found[0].now, sent, self._clock.monotonic())
        for place, due in zip(self._places, found, strict=True):
            self._put_off.store_says(due.now)
            try:
                parts.append(await self._promote(place, due))
            except StoreRefused as error:  # of this set; the other must not wait for it
                refused = error
        moved = sum(part.moved for part in parts)
        if refused is not None and moved == 0:
            raise refused
        next_in_s = [part.next_in_s for part in parts if part.next_in_s is not None]
        buried = sum(part.buried for part in parts)
        return Promotion(moved, buried, min(next_in_s, default=None), set_back_s)

    async def _promote(self, place: Place, due: DueMembers) -> Promotion:
        if due.trouble:
            raise StoreRefused(due.trouble)
        moves = [self._promoted(member, due.now) for member in due.members]
        if moves:
            moved = await self._backend.promote(place, moves)
            return Promotion(moved, sum(move.queue is None for move in moves), 0.0)
        return Promotion(0, 0, None if due.next_at is None else max(0.0, due.next_at - due.now))

    def _promoted(self, member: bytes, now: float) -> PromotedJob:
        job = readable(member)
        if job is None:
            return PromotedJob(member, None, buried(member, "default", now, self._clock.random))
        payload = amend_job(job, member, {"enqueued_at": now}, drop=("at",))
        effects = choose_effects(job, Fate("queue", "clock"), now, self.effects_of)
        return PromotedJob(member, job.queue, payload, effects)

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        sent = self._clock.monotonic()
        reply = self._backend.beat(heartbeat)
        if float("-inf") < self._trusted_until < self._clock.monotonic():
            self.lapses += 1  # before it is trusted again: nobody must miss it
        self._trusted_until = sent + heartbeat.lease_s - min(_TRUST_MARGIN_S, heartbeat.lease_s / 2)
        return reply

    def trusted(self) -> bool:
        return self._clock.monotonic() < self._trusted_until

    async def rescue(self) -> RescueResult:
        rescued: list[Rescued] = []
        refusals: list[StoreRefused] = []
        try:
            await self._rescues.ask_again(rescued)
            suspects = await self._backend.suspects()
            for suspect in suspects:
                if suspect.confirmed:
                    await self._rescue(suspect, rescued, refusals)
        except StoreUnavailable:
            if not rescued:
                raise
            return RescueResult(rescued, suspects=1)  # report what moved; rescue the rest soon
        if refusals and not rescued:
            raise refusals[0]
        return RescueResult(rescued, sum(not suspect.confirmed for suspect in suspects))

    async def _rescue(
        self, suspect: Suspect, rescued: list[Rescued], refusals: list[StoreRefused]
    ) -> None:
        before = 0
        async for held in self._pages_held(suspect.ident, suspect.queue):  # the oldest runs next
            orphans = self._orphans(held, suspect.queue, before)
            before += len(orphans)
            await self._rescues.move_back(suspect, orphans, rescued, refusals)
        if before == 0:  # its inbox must be emptied all the same
            await self._rescues.move_back(suspect, [], rescued, refusals)

    def _orphans(self, held: Mapping[int, bytes], queue: str, before: int) -> list[Orphan]:
        """One page of orphans, newest first. `before`: how many the pages before it had."""
        now = self._clock.now()
        orphans = {n: orphan_of(n, raw, now, self._clock.random) for n, raw in held.items()}
        if "schedule" in self._places:
            keep_apart(orphans, queue, self._clock.random, before)
        return [self._with_effects(orphans[n], now) for n in sorted(orphans, reverse=True)]

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

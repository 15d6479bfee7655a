"""A store backend that loses calls, loses replies, or carries a call out late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from kiqpy.errors import KiqError, StoreUnavailable
from kiqpy.outcome import Lock, Verdict
from kiqpy.store import Frame, Heartbeat, HeartbeatReply, OutgoingJob, Pushed
from kiqpy.store._backend import (
    Backend,
    DueMembers,
    Fetched,
    LaneClaim,
    Orphan,
    PromotedJob,
    Suspect,
)
from kiqpy.store.backups import BackupFrame, Backups
from kiqpy.store.calendar import Calendar
from kiqpy.store.census import Census, Place
from kiqpy.store.lanes import Lanes

T = TypeVar("T")
How = Literal["before", "after", "late"]
ANY = "*"

VERBS = (
    "push", "withdraw", "wait", "unwait", "fetch", "recover", "settle", "holding", "due", "promote",
    "marks", "unlock", "heads", "suspects", "rescue", "beat", "leave", "keep",
)  # fmt: skip


class Faults:
    """Which call fails, and how. Calls are counted from 1, per verb and (as `ANY`) in all.

    before: nothing happens and no answer comes.  after: it happens and no answer comes.
    late: no answer comes, and it happens at `release()`.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.late_errors: list[KiqError] = []
        self._plan: dict[tuple[str, int], How] = {}
        self._late: list[Callable[[], Awaitable[object]]] = []

    def fail(self, verb: str, how: How, *, call: int | None = None, times: int = 1) -> None:
        """Plan a fault for the `call`-th call of the verb (default: its next), `times` in a row."""
        first = self.calls[verb] + 1 if call is None else call
        for n in range(first, first + times):
            self._plan[verb, n] = how

    def heal(self) -> None:
        """Forget all faults that have not happened yet."""
        self._plan.clear()

    @property
    def pending(self) -> int:
        """How many calls are still under way."""
        return len(self._late)

    def delay(self, call: Callable[[], Awaitable[object]]) -> None:
        """Keep a call under way until `release()`."""
        self._late.append(call)

    async def release(self) -> None:
        """Let the calls that are under way arrive, oldest first; what they answer is not heard."""
        late, self._late = self._late, []
        for call in late:
            try:
                await call()
            except KiqError as error:
                self.late_errors.append(error)

    def next_fault(self, verb: str) -> How | None:
        """Count a call and say how it fails."""
        self.calls[verb] += 1
        self.calls[ANY] += 1
        by_verb = self._plan.pop((verb, self.calls[verb]), None)
        return self._plan.pop((ANY, self.calls[ANY]), None) or by_verb

    async def run(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, or have it fail as planned."""
        fault = self.next_fault(verb)
        if fault is None:
            return await call()
        if fault == "after":
            await call()
        elif fault == "late":
            self.delay(call)
        raise _lost(verb, fault)


def _lost(verb: str, fault: How) -> StoreUnavailable:
    return StoreUnavailable(f"{verb}: no answer ({fault})")


class Faulty:
    """A backend whose calls go wrong as a plan says."""

    def __init__(self, backend: Backend, plan: Faults) -> None:
        self.ident = backend.ident
        self._backend = backend
        self._plan = plan

    async def open(self) -> None:
        await self._backend.open()

    async def close(self) -> None:
        await self._backend.close()

    @property
    def census(self) -> Census:
        return self._backend.census

    @property
    def calendar(self) -> Calendar:
        return self._backend.calendar

    @property
    def backups(self) -> Backups:
        return FaultyBackups(self._backend.backups, self._plan)

    async def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]:
        return await self._plan.run("push", lambda: self._backend.push(frame, age_s))

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        return await self._plan.run("withdraw", lambda: self._backend.withdraw(frame))

    async def wait(self, queue: str, timeout_s: float) -> bool:
        return await self._plan.run("wait", lambda: self._backend.wait(queue, timeout_s))

    async def unwait(self, queue: str) -> None:
        await self._plan.run("unwait", lambda: self._backend.unwait(queue))

    async def fetch(self, queue: str, limit: int, first: int) -> Fetched:
        return await self._plan.run("fetch", lambda: self._backend.fetch(queue, limit, first))

    @property
    def lanes(self) -> Lanes:
        return self._backend.lanes

    async def heads(self, queue: str, claims: Sequence[LaneClaim]) -> list[bool]:
        return await self._plan.run("heads", lambda: self._backend.heads(queue, claims))

    async def marks(self, after: float) -> list[tuple[str, float]]:
        return await self._plan.run("marks", lambda: self._backend.marks(after))

    async def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None:
        await self._plan.run("unlock", lambda: self._backend.unlock(locks))

    async def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]:
        return await self._plan.run("recover", lambda: self._backend.recover(queue, first, last))

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        return await self._plan.run("settle", lambda: self._backend.settle(frame))

    async def held(self, ident: str, queue: str) -> dict[int, int]:
        return await self._plan.run("held", lambda: self._backend.held(ident, queue))

    async def holding(self, ident: str, queue: str, deliveries: Sequence[int]) -> dict[int, bytes]:
        return await self._plan.run(
            "holding", lambda: self._backend.holding(ident, queue, deliveries)
        )

    async def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]:
        return await self._plan.run("due", lambda: self._backend.due(places, limit))

    async def promote(self, place: Place, moves: Sequence[PromotedJob]) -> int:
        return await self._plan.run("promote", lambda: self._backend.promote(place, moves))

    async def suspects(self) -> list[Suspect]:
        return await self._plan.run("suspects", self._backend.suspects)

    async def rescue(self, suspect: Suspect, orphans: Sequence[Orphan], sequence: int) -> set[int]:
        return await self._plan.run(
            "rescue", lambda: self._backend.rescue(suspect, orphans, sequence)
        )

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        fault = self._plan.next_fault("beat")
        if fault is None:
            return self._backend.beat(heartbeat)
        if fault == "after":
            self._backend.beat(heartbeat)
        elif fault == "late":
            self._plan.delay(lambda: _told(self._backend, heartbeat))
        raise _lost("beat", fault)

    async def leave(self) -> None:
        await self._plan.run("leave", self._backend.leave)


class FaultyBackups:
    """The backups of such a backend."""

    def __init__(self, backups: Backups, plan: Faults) -> None:
        self._backups = backups
        self._plan = plan

    async def keep(self, frame: BackupFrame) -> list[Pushed]:
        return await self._plan.run("keep", lambda: self._backups.keep(frame))


async def _told(backend: Backend, heartbeat: Heartbeat) -> HeartbeatReply:
    return backend.beat(heartbeat)

"""The backend in this process's memory, for tests: the same steps as on Redis, without a server.

It asks a `Clock` for the time, so virtual time works. Nothing outlives the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, final

from kiqpy.errors import FetchPaused, LeaseLost, StoreRefused
from kiqpy.outcome import Bury, Defer, Done, FreeLock, Lock, Release, Retry, Verdict
from kiqpy.store import Frame, FrameWithdrawn, Heartbeat, HeartbeatReply, OutgoingJob, Pushed
from kiqpy.store._backend import DueMembers, Fetched, LaneClaim, Orphan, PromotedJob, Suspect
from kiqpy.store.census import Place
from kiqpy.store.memory.backups import MemoryBackups
from kiqpy.store.memory.calendar import MemoryCalendar
from kiqpy.store.memory.census import MemoryCensus
from kiqpy.store.memory.effects import run_effects
from kiqpy.store.memory.lanes import MemoryLanes, keep_heads
from kiqpy.store.memory.pushes import store_job
from kiqpy.store.memory.server import MemoryServer, Owner, QueueWaiter, SuspectMark

__all__ = ["MemoryBackend", "MemoryServer"]

P = ParamSpec("P")
R = TypeVar("R")

MIN_SIGHTINGS: Final = 3  # of a process without a lease, before it counts as dead
DEAD_LIMIT: Final = 10_000
DEAD_TIMEOUT_S: Final = 180 * 86_400.0


def _step(
    verb: Callable[Concatenate[MemoryBackend, P], R],
) -> Callable[Concatenate[MemoryBackend, P], Coroutine[Any, Any, R]]:
    """Make a verb one atomic step: it awaits nothing, and keeps the heartbeat's thread out."""

    @wraps(verb)
    async def step(self: MemoryBackend, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.server.gate:
            return verb(self, *args, **kwargs)

    return step


@final
class MemoryBackend:
    """The steps of a `Backend` on a `MemoryServer`, for one process."""

    def __init__(
        self,
        server: MemoryServer,
        ident: str,
        *,
        dead_limit: int = DEAD_LIMIT,
        dead_timeout_s: float = DEAD_TIMEOUT_S,
        suspicion_s: float = 10.0,
        outlive_s: float = 600.0,
    ) -> None:
        self.ident = ident
        self.server = server
        self.census = MemoryCensus(server, self._bury)
        self.calendar = MemoryCalendar(server, ident)
        self.backups = MemoryBackups(server, ident)
        self.lanes = MemoryLanes(server)
        self._dead_limit = dead_limit
        self._dead_timeout_s = dead_timeout_s
        self._suspicion_s = suspicion_s
        self._outlive_s = outlive_s

    async def open(self) -> None:
        """Do nothing: the server is always there."""

    async def close(self) -> None:
        for queue in list(self.server.waiters):
            self._end_waits(queue)

    # -- intake

    @_step
    def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]:
        kept = self.server.pushes.replay(frame.source, frame.sequence)
        if kept is not None:
            if len(kept) < len(frame.items):
                raise FrameWithdrawn(f"frame {frame.sequence} of {frame.source}")
            return kept
        results = [store_job(self.server, item, age_s) for item in frame.items]
        self.server.pushes.keep(frame.source, frame.sequence, results)
        self.server.wake({item.queue for item in frame.items})
        return results

    @_step
    def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        return self.server.pushes.withdraw(frame.source, frame.sequence)

    # -- source

    async def wait(self, queue: str, timeout_s: float) -> bool:
        waiter = QueueWaiter(self.ident, asyncio.get_running_loop().create_future())
        waiters = self.server.waiters[queue]
        with self.server.gate:
            waiters.append(waiter)
            self.server.wake([queue])
        timer = self.server.clock.call_later(timeout_s, waiter.end)
        try:
            return await waiter.done
        finally:
            timer.cancel()
            if waiter in waiters:
                waiters.remove(waiter)

    @_step
    def unwait(self, queue: str) -> None:
        self._end_waits(queue)
        self.server.empty_inbox((self.ident, queue))
        self.server.wake([queue])

    def _end_waits(self, queue: str) -> None:
        for waiter in list(self.server.waiters[queue]):
            if waiter.ident == self.ident:
                self.server.waiters[queue].remove(waiter)
                waiter.end()

    @_step
    def fetch(self, queue: str, limit: int, first: int) -> Fetched:
        owner = (self.ident, queue)
        if not self.server.leased(self.ident):
            raise LeaseLost("this process claims no jobs until a heartbeat succeeds")
        if first < self.server.floors[owner]:
            raise StoreRefused(f"delivery {first} of {queue} was given up by a recovery")
        if queue in self.server.paused:
            self.server.empty_inbox(owner)
            self.server.wake([queue])
            raise FetchPaused(f"queue {queue!r} is paused")
        self.server.privs.add(owner)
        taken = self._oldest(owner, limit)
        self.server.privates[owner].update(enumerate(taken, first))
        return Fetched(taken, self.server.marked_at())

    @_step
    def heads(self, queue: str, claims: Sequence[LaneClaim]) -> list[bool]:
        return keep_heads(self.server, (self.ident, queue), claims)

    @_step
    def marks(self, after: float) -> list[tuple[str, float]]:
        return [(mark, at) for mark, at in self.server.cancels.items() if at > after]

    @_step
    def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None:
        run_effects(self.server, tuple([FreeLock(lock, jid) for jid, lock in locks]))

    def _oldest(self, owner: Owner, limit: int) -> list[bytes]:
        """The oldest jobs, the inbox first; what exceeds the limit returns to the queue."""
        jobs, inbox = self.server.queues[owner[1]], self.server.inboxes[owner]
        taken = [inbox.pop() for _ in range(min(limit, len(inbox)))]
        self.server.empty_inbox(owner)
        taken += [jobs.pop() for _ in range(min(limit - len(taken), len(jobs)))]
        self.server.wake([owner[1]])
        return taken

    @_step
    def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]:
        owner = (self.ident, queue)
        self.server.floors[owner] = max(self.server.floors[owner], last + 1)
        held = self.server.privates[owner]
        return {n: held[n] for n in range(first, last + 1) if n in held}

    @_step
    def held(self, ident: str, queue: str) -> dict[int, int]:
        return {n: len(raw) for n, raw in self.server.privates[ident, queue].items()}

    @_step
    def holding(self, ident: str, queue: str, deliveries: Sequence[int]) -> dict[int, bytes]:
        held = self.server.privates[ident, queue]
        return {n: held[n] for n in deliveries if n in held}

    # -- settle

    @_step
    def settle(self, frame: Frame[Verdict]) -> list[bool]:
        owner = (self.ident, frame.source)
        kept = self.server.settles.replay(owner, frame.sequence)
        if kept is not None:
            return kept
        held, released = self.server.privates[owner], dict[int, bytes]()
        results: list[bool] = []
        for verdict in frame.items:
            raw = held.pop(verdict.delivery, None)
            results.append(raw is not None)
            if raw is not None:
                self._carry_out(frame.source, verdict, raw, released)
        self._append(frame.source, [released[n] for n in sorted(released, reverse=True)])
        self.server.settles.keep(owner, frame.sequence, results)
        return results

    def _carry_out(
        self, queue: str, verdict: Verdict, raw: bytes, released: dict[int, bytes]
    ) -> None:
        match verdict:
            case Done(failed=failed):
                self.server.count(queue, processed=1, failed=int(failed))
            case Retry(payload=payload, in_s=in_s):
                self.server.count(queue, processed=1, failed=1)
                self._postpone("retry", payload, in_s)
            case Defer(payload=payload, in_s=in_s):
                self._postpone("schedule", payload, in_s)
            case Bury(payload=payload):
                self.server.count(queue, processed=1, failed=1)
                self._bury(payload)
            case Release(delivery):
                released[delivery] = raw
        run_effects(self.server, verdict.effects)

    def _postpone(self, place: Place, payload: bytes, in_s: float) -> None:
        self.server.places[place].add(payload, self.server.clock.now() + in_s)

    def _bury(self, payload: bytes) -> None:
        dead, now = self.server.places["dead"], self.server.clock.now()
        dead.add(payload, now)
        before = len(dead)
        dead.drop_first(dead.until(now - self._dead_timeout_s))
        dead.drop_first(len(dead) - self._dead_limit)
        self.server.stats["trimmed"] += before - len(dead)

    def _append(self, queue: str, payloads: Sequence[bytes]) -> None:
        """Put jobs at the oldest end of a queue; the last one is the next to be fetched."""
        self.server.queues[queue].extend(payloads)
        self.server.wake([queue])

    # -- maintenance

    @_step
    def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]:
        return [self._due(place, limit) for place in places]

    def _due(self, place: Place, limit: int) -> DueMembers:
        now, members = self.server.clock.now(), self.server.places[place]
        ripe = members.until(now)
        upcoming = members.slice(ripe, ripe + 1)
        found = [member for _, member in members.slice(0, min(ripe, limit))]
        return DueMembers(now, found, upcoming[0][0] if upcoming else None)

    @_step
    def promote(self, place: Place, moves: Sequence[PromotedJob]) -> int:
        moved = [move for move in moves if self._promote(place, move)]
        self.server.wake({move.queue for move in moved if move.queue is not None})
        return len(moved)

    def _promote(self, place: Place, move: PromotedJob) -> bool:
        score = self.server.places[place].score(move.member)
        if score is None or score > self.server.clock.now():
            return False
        self.server.places[place].remove(move.member)
        if move.queue is None:
            self._bury(move.payload)
        else:
            self.server.queues[move.queue].appendleft(move.payload)
            run_effects(self.server, move.effects)
        return True

    @_step
    def suspects(self) -> list[Suspect]:
        others = sorted(owner for owner in self.server.privs if owner[0] != self.ident)
        return [suspect for owner in others if (suspect := self._look_at(owner))]

    def _look_at(self, owner: Owner) -> Suspect | None:
        if self.server.leased(owner[0]):
            self.server.suspects.pop(owner, None)
            return None
        now = self.server.clock.now()
        mark = self.server.suspects.get(owner)
        if mark is None or now - mark.last > self._suspicion_s:
            mark = SuspectMark(0, now, now)
        self.server.suspects[owner] = mark = SuspectMark(mark.sightings + 1, mark.first, now)
        if not self._confirmed(owner):
            return Suspect(*owner, False)
        if self.server.privates[owner] or self.server.inboxes[owner]:
            return Suspect(*owner, True)
        if now - mark.first >= self._outlive_s:
            self._forget(owner)
        return None

    def _confirmed(self, owner: Owner) -> bool:
        mark, now = self.server.suspects.get(owner), self.server.clock.now()
        if mark is None or self.server.leased(owner[0]) or now - mark.last > self._suspicion_s:
            return False
        return mark.sightings >= MIN_SIGHTINGS and now - mark.first >= self._suspicion_s

    def _forget(self, owner: Owner) -> None:
        self.server.privs.discard(owner)
        for shelf in (self.server.suspects, self.server.privates, self.server.inboxes):
            shelf.pop(owner, None)

    @_step
    def rescue(self, suspect: Suspect, orphans: Sequence[Orphan], sequence: int) -> set[int]:
        last, moved = self.server.rescues.get(self.ident, (0, frozenset()))
        if last == sequence:
            return set(moved)
        moved = frozenset(self._rescue((suspect.ident, suspect.queue), orphans))
        if moved:
            self.server.rescues[self.ident] = (sequence, moved)
        return set(moved)

    def _rescue(self, owner: Owner, orphans: Sequence[Orphan]) -> set[int]:
        if not self._confirmed(owner):
            return set()
        self.server.empty_inbox(owner)
        held = self.server.privates[owner]
        found = [orphan for orphan in orphans if held.pop(orphan.delivery, None) is not None]
        at_once: list[bytes] = []
        for orphan in found:
            if orphan.poison:
                self._bury(orphan.payload)
            elif orphan.in_s > 0:
                self._postpone("schedule", orphan.payload, orphan.in_s)
            else:
                at_once.append(orphan.payload)
            run_effects(self.server, orphan.effects)
        self._append(owner[1], at_once)
        return {orphan.delivery for orphan in found}

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        server, ident = self.server, self.ident
        with server.gate:
            server.leases[ident] = server.clock.now() + heartbeat.lease_s
            server.processes[ident] = heartbeat
            server.privs.update((ident, queue) for queue in heartbeat.queues)
            signals = server.signals[ident]
            return HeartbeatReply(
                signals.popleft() if signals else None,
                {queue: len(server.privates[ident, queue]) for queue in heartbeat.queues},
                {queue: len(server.inboxes[ident, queue]) for queue in heartbeat.queues},
            )

    @_step
    def leave(self) -> None:
        self.server.leases.pop(self.ident, None)
        self.server.processes.pop(self.ident, None)

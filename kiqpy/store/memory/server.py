"""The state that stands for one Redis server, shared by the `MemoryBackend`s of several processes.

Queues are kept as Redis keeps them: new jobs enter on the left, the oldest leaves on the right.
"""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Generic, NamedTuple, Protocol, TypeVar, final

from kiqpy.clock import Clock
from kiqpy.errors import StoreRefused
from kiqpy.outcome import Lock
from kiqpy.store import Heartbeat, Pushed, calendar
from kiqpy.store.census import Place, counted

R = TypeVar("R")
Owner = tuple[str, str]  # a process and one of its queues
Lane = tuple[str, str]  # a queue and one of its lanes


class Ranked:
    """Members in the order of their scores, and of their bytes where scores are equal."""

    def __init__(self) -> None:
        self._scores: dict[bytes, float] = {}
        self._order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._order)

    def score(self, member: bytes) -> float | None:
        return self._scores.get(member)

    def add(self, member: bytes, score: float) -> None:
        self.remove(member)
        self._scores[member] = score
        insort(self._order, (score, member))

    def remove(self, member: bytes) -> None:
        score = self._scores.pop(member, None)
        if score is not None:
            del self._order[bisect_left(self._order, (score, member))]

    def until(self, score: float) -> int:
        """How many members have at most this score."""
        return bisect_right(self._order, score, key=lambda entry: entry[0])

    def holds(self, score: float) -> bool:
        """Whether a member has exactly this score."""
        at = bisect_left(self._order, score, key=lambda entry: entry[0])
        return at < len(self._order) and self._order[at][0] == score

    def slice(self, start: int, stop: int) -> list[tuple[float, bytes]]:
        return self._order[start:stop]

    def drop_first(self, count: int) -> None:
        for _, member in self._order[: max(0, count)]:
            self.remove(member)


class LastReplies(Generic[R]):
    """The last reply to each source of frames, for a frame that is sent again."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[int, list[R]]] = {}

    def __len__(self) -> int:
        return len(self._last)

    def clear(self) -> None:
        self._last.clear()

    def replay(self, source: object, sequence: int) -> list[R] | None:
        if source not in self._last:
            return None
        last, results = self._last[source]
        if sequence < last:
            raise StoreRefused(f"sequence {sequence} of {source} comes after {last}: not stored")
        return list(results) if sequence == last else None

    def withdraw(self, source: object, sequence: int) -> list[R] | None:
        """The reply, if there is one; else the frame is answered with no results from now on."""
        results = self.replay(source, sequence)
        if results is None:
            self.keep(source, sequence, [])
        return results or None

    def keep(self, source: object, sequence: int, results: Sequence[R]) -> None:
        self._last[source] = (sequence, list(results))


class SuspectMark(NamedTuple):
    """How often, and since when, a process was seen without a lease."""

    sightings: int
    first: float
    last: float


class QueueWaiter(NamedTuple):
    ident: str
    done: asyncio.Future[bool]

    def end(self, came: bool = False) -> None:
        if not self.done.done():
            self.done.set_result(came)


class _Shelf(Protocol):
    def __len__(self) -> int: ...
    def clear(self) -> object: ...


@final
class MemoryServer:
    """One Redis server, as it were; every process of a test has a backend on the same one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.gate = threading.RLock()
        self.queues: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self.places: defaultdict[Place, Ranked] = defaultdict(Ranked)
        self.privates: defaultdict[Owner, dict[int, bytes]] = defaultdict(dict)
        self.inboxes: defaultdict[Owner, deque[bytes]] = defaultdict(deque)
        self.floors: defaultdict[Owner, int] = defaultdict(int)
        self.leases: dict[str, float] = {}
        self.processes: dict[str, Heartbeat] = {}
        self.signals: defaultdict[str, deque[str]] = defaultdict(deque)
        self.privs: set[Owner] = set()
        self.suspects: dict[Owner, SuspectMark] = {}
        self.paused: set[str] = set()
        self.cancels: dict[str, float] = {}  # +jid, -jid or =jid -> when
        self.locks: dict[str, tuple[str, float]] = {}  # token -> jid, and until when
        self.heads: dict[Lane, str] = {}  # the jid of each lane's head, "": none may run
        self.lanes: dict[Lane, str] = {}  # the state of a lane, if it has one, and since when
        self.pushes: LastReplies[Pushed] = LastReplies()
        self.settles: LastReplies[bool] = LastReplies()
        self.backups: LastReplies[Pushed] = LastReplies()
        self.rescues: dict[str, tuple[int, frozenset[int]]] = {}  # the last that moved jobs
        self.stats: Counter[str] = Counter()
        self.waiters: defaultdict[str, deque[QueueWaiter]] = defaultdict(deque)
        self.marks: dict[str, calendar.TickMark] = {}  # of periodics, by name
        self.switched: dict[str, bool] = {}
        self.schedules: dict[str, str] = {}  # the schedule that a mark belongs to, by name
        self.leaders: dict[str, tuple[str, float]] = {}  # group -> ident, and until when

    def clear(self) -> int:
        """Forget all that stands for a key; return how many. Who waits for a job goes on."""
        shelves: tuple[_Shelf, ...] = (
            self.queues,
            self.privates,
            self.inboxes,
            self.floors,
            self.leases,
            self.processes,
            self.signals,
            self.privs,
            self.suspects,
            self.paused,
            self.cancels,
            self.locks,
            self.pushes,
            self.settles,
            self.backups,
            self.rescues,
            self.stats,
            self.marks,
            self.switched,
            self.schedules,
            self.leaders,
            self.heads,
            self.lanes,
        )
        dropped = sum(map(len, shelves)) + sum(map(bool, self.places.values()))
        for shelf in shelves:
            shelf.clear()
        self.places.clear()
        return dropped

    def leased(self, ident: str) -> bool:
        return self.leases.get(ident, float("-inf")) > self.clock.now()

    def holder(self, token: str) -> str | None:
        """The jid that holds the lock, or None."""
        jid, until = self.locks.get(token, ("", float("-inf")))
        return jid if until > self.clock.now() else None

    def take(self, lock: Lock, jid: str, due_at: float | None) -> str | None:
        """Give a job the lock, until `ttl_s` after it is due; or return the jid that holds it."""
        holder = self.holder(lock.token)
        if holder is None:
            due_at = max(self.clock.now(), due_at or 0.0)
            self.locks[lock.token] = (jid, due_at + lock.ttl_s)
        return holder

    def owns(self, lock: Lock, jid: str) -> bool:
        """Whether the job may free the lock; a lock of Kiq's names no owner."""
        holder = self.holder(lock.token)
        if lock.owned:
            return holder == jid
        return holder is not None and holder.isdecimal() and len(holder) < 16

    def extend(self, lock: Lock, jid: str, in_s: float) -> None:
        """Extend the job's lock to `ttl_s` after it is due in `in_s`; never shorten it."""
        if lock.owned and self.holder(lock.token) == jid:
            _, until = self.locks[lock.token]
            self.locks[lock.token] = (jid, max(until, self.clock.now() + in_s + lock.ttl_s))

    def count(self, queue: str, processed: int = 0, failed: int = 0) -> None:
        day = datetime.fromtimestamp(self.clock.now(), UTC).date().isoformat()
        for name, n in (("processed", processed), ("failed", failed)):
            for of in (name, f"{name}:{day}", f"{name}:{counted(queue)}"):
                self.stats[of] += n

    def marked_at(self) -> float:
        """When a job was last cancelled; 0: never."""
        return max(self.cancels.values(), default=0.0)

    def forget_lane(self, lane: Lane, place: Place) -> None:
        """It holds no job."""
        for shelf in (self.heads, self.lanes):
            shelf.pop(lane, None)
        self.places.pop(place, None)

    def wake(self, queues: Iterable[str]) -> None:
        """Give jobs to waiting processes, the longest waiting first, as BLMOVE does."""
        for queue in queues:
            waiters, jobs = self.waiters[queue], self.queues[queue]
            while waiters and jobs:
                waiter = waiters.popleft()
                if not waiter.done.done():
                    self.inboxes[waiter.ident, queue].appendleft(jobs.pop())
                    waiter.end(came=True)

    def empty_inbox(self, owner: Owner) -> None:
        """Return its jobs to the queue's oldest end, in order."""
        inbox = self.inboxes[owner]
        self.queues[owner[1]].extend(inbox)
        inbox.clear()

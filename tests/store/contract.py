"""Worlds for the store tests: several processes over one server, and a view of its keys.

The suite talks to `Session`s only; a world is for what no process could see or do by itself: where
each job is, how a lease ends, what another program does to a key.
"""

from __future__ import annotations

import asyncio
import functools
import json
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from kiqpy.clock import Clock, SystemClock
from kiqpy.errors import StoreRefused, StoreUnavailable
from kiqpy.job import Job, decode
from kiqpy.outcome import ExtendLock, FreeLock, Lock
from kiqpy.store import Frame, Heartbeat, HeartbeatReply, OutgoingJob, Pushed
from kiqpy.store._backend import Backend
from kiqpy.store._session import Session
from kiqpy.store.census import Place
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock
from tests.faults import Faults, Faulty
from tests.server import UTF8, TestServer

PLACES: tuple[Place, ...] = ("schedule", "retry", "dead")
DEADLINE_S = 10.0


def payload(jid: str, queue: str = "q", args: str = "[]", **fields: object) -> bytes:
    """A job's bytes, with spaces after the colons and with the text of `args` as given."""
    rest = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return (
        f'{{"class": "Work", "args": {args}, "jid": "{jid}", "queue": "{queue}"{rest}}}'
    ).encode()


def outgoing(
    jid: str,
    queue: str = "q",
    *,
    in_s: float | None = None,
    at_s: float | None = None,
    lock: Lock | None = None,
    **fields: Any,
) -> OutgoingJob:
    return OutgoingJob(queue, jid, payload(jid, queue, **fields), in_s, at_s, lock)


def frees(jid: str, lock: Lock) -> tuple[FreeLock]:
    return (FreeLock(lock, jid),)


def holds(jid: str, lock: Lock, in_s: float) -> tuple[ExtendLock]:
    return (ExtendLock(lock, jid, in_s),)


def jids(found: Iterable[Any]) -> list[str]:
    """Of claims, entries or bytes."""
    return [job_of(item).jid for item in found]


def job_of(item: Any) -> Job:
    return decode(item if isinstance(item, bytes) else item.raw)


class World(ABC):
    """One server, the processes that use it, and a view from above."""

    suspicion_s: float
    outlive_s: float
    clock: Clock
    real = True  # a server that others can reach, and whose time passes by itself

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self._sequences: Counter[str] = Counter()
        self._backends: dict[str, Backend] = {}
        self._client: Session | None = None

    # ---- processes

    @abstractmethod
    def backend(self, ident: str, **options: Any) -> Backend: ...

    async def process(
        self,
        *queues: str,
        faults: Faults | None = None,
        lease_s: float = 30.0,
        beat: bool = True,
        **options: Any,
    ) -> Session:
        """A new process that has opened the store and, unless told otherwise, has a lease."""
        ident = f"test:{len(self.sessions) + 1}:{id(self):x}"
        backend = self._backends[ident] = self.backend(ident, **options)
        seen = Faulty(backend, faults) if faults else backend
        session = Session(seen, self.clock, ("schedule", "retry"))
        self.sessions.append(session)
        await session.open()
        if beat:
            self.beat(session, *queues, lease_s=lease_s)
        return session

    def backend_of(self, session: Session) -> Backend:
        return self._backends[session.ident]

    def beat(self, session: Session, *queues: str, lease_s: float = 30.0) -> HeartbeatReply:
        return session.beat(heartbeat(*(queues or ("q",)), lease_s=lease_s))

    async def close(self) -> None:
        for session in self.sessions:
            await session.close()

    # ---- clients

    def frame(
        self, *items: OutgoingJob, source: str = "client", atomic: bool = False
    ) -> Frame[OutgoingJob]:
        self._sequences[source] += 1
        made_at = self.clock.monotonic()
        return Frame(source, self._sequences[source], items, made_at, atomic)

    async def push(self, *items: OutgoingJob, source: str = "client") -> list[Pushed]:
        if self._client is None:
            self._client = await self.process(beat=False)
        return await self._client.push(self.frame(*items, source=source))

    async def fill(self, count: int, queue: str = "q") -> list[str]:
        """Push jobs and tell their jids, oldest first."""
        names = [f"j{n:04}" for n in range(count)]
        await self.push(*(outgoing(name, queue) for name in names))
        return names

    # ---- time

    @abstractmethod
    async def let_pass(self, seconds: float) -> None:
        """Time passes; on a real server these are real seconds, so keep them few."""

    async def eventually(self, condition: Callable[[], Any], step_s: float = 0.005) -> Any:
        """What the condition (or the awaitable it makes) says as soon as that is truthy."""
        give_up = self.clock.monotonic() + DEADLINE_S * (1 if self.real else 1000)
        while True:
            answer = condition()
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer:
                return answer
            assert self.clock.monotonic() < give_up, "waited in vain"
            await self.let_pass(step_s if self.real else self.suspicion_s / 4)

    async def blocked(self, count: int) -> None:
        """Return when so many waits are under way."""
        await self.eventually(lambda: self.waits() == count)

    async def die(self, session: Session) -> None:
        """The process is gone, and its lease has run out."""
        self.drop_lease(session.ident)

    async def rescued(self, by: Session) -> list[Any]:
        """Sweep as the rescue loop does until something was rescued."""
        found: list[Any] = []

        async def sweep() -> bool:
            found.extend((await by.rescue()).rescued)
            return bool(found)

        await self.eventually(sweep, self.suspicion_s / 4)
        return found

    async def confirm(self, by: Session) -> None:
        """Look often and long enough that each dead process is surely dead, and touch nothing."""
        backend = self.backend_of(by)

        async def sure() -> bool:
            return all(suspect.confirmed for suspect in await backend.suspects())

        assert not await sure()
        await self.eventually(sure, self.suspicion_s / 4)

    # ---- the view from above

    @abstractmethod
    def queue(self, queue: str) -> list[bytes]:
        """Next job first."""

    @abstractmethod
    def queues(self) -> list[str]: ...

    @abstractmethod
    def members(self, place: Place) -> dict[bytes, float]: ...

    @abstractmethod
    def privates(self) -> dict[tuple[str, str], dict[int, bytes]]: ...

    @abstractmethod
    def inboxes(self) -> dict[tuple[str, str], list[bytes]]:
        """Oldest first."""

    @abstractmethod
    def stat(self, name: str) -> int: ...

    @abstractmethod
    def lock(self, token: str) -> tuple[str, float] | None:
        """Its holder's jid and its seconds left."""

    @abstractmethod
    def privs(self) -> set[tuple[str, str]]: ...

    @abstractmethod
    def processes(self) -> set[str]: ...

    @abstractmethod
    def waits(self) -> int: ...

    @abstractmethod
    def now(self) -> float:
        """The server's time."""

    # ---- what others do to a server

    @abstractmethod
    def drop_lease(self, ident: str) -> None: ...

    @abstractmethod
    def pause(self, queue: str) -> None: ...

    @abstractmethod
    def signal(self, ident: str, name: str) -> None: ...

    @abstractmethod
    def late_wait(self, ident: str, queue: str) -> None:
        """A wait that nobody remembers moves a job into the inbox."""

    # ---- where every job is

    def private(self, session: Session, queue: str = "q") -> dict[int, bytes]:
        return self.privates().get((session.ident, queue), {})

    def inbox(self, session: Session, queue: str = "q") -> list[bytes]:
        return self.inboxes().get((session.ident, queue), [])

    def due_at(self, place: Place) -> dict[str, float]:
        return {job_of(member).jid: score for member, score in self.members(place).items()}

    def everywhere(self) -> dict[str, list[str]]:
        """Each jid with all places where it is."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for place, raws in self._shelves():
            for raw in raws:
                found[job_of(raw).jid].append(place)
        return dict(found)

    def _shelves(self) -> Iterable[tuple[str, Iterable[bytes]]]:
        yield from ((f"queue:{queue}", self.queue(queue)) for queue in self.queues())
        yield from ((place, self.members(place)) for place in PLACES)
        yield from ((f"private|{owner}", held.values()) for owner, held in self.privates().items())
        yield from ((f"inbox|{owner}", box) for owner, box in self.inboxes().items())

    def check(self, pushed: Iterable[str], done: Iterable[str] = ()) -> None:
        """Each jid is in exactly one place, or done."""
        found, finished = self.everywhere(), set(done)
        for jid in pushed:
            places = found.pop(jid, []) + (["done"] if jid in finished else [])
            assert len(places) == 1, f"{jid} is in {places or 'no place'}"
        assert not found, f"nobody pushed {found}"


def heartbeat(*queues: str, lease_s: float = 30.0, busy: int = 0, work: Any = None) -> Heartbeat:
    return Heartbeat(
        info="{}", concurrency=5, quiet=False, busy=busy, work=work or {}, rss_kb=1,
        queues=queues, lease_s=lease_s,
    )  # fmt: skip


class MemoryWorld(World):
    """Over `MemoryServer`, on virtual time."""

    suspicion_s = 10.0
    outlive_s = 600.0
    real = False

    def __init__(self) -> None:
        super().__init__()
        self.clock: FakeClock = FakeClock()
        self.server = MemoryServer(self.clock)

    def backend(self, ident: str, **options: Any) -> Backend:
        return MemoryBackend(self.server, ident, **options)

    async def let_pass(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    def queue(self, queue: str) -> list[bytes]:
        return list(reversed(self.server.queues[queue]))

    def queues(self) -> list[str]:
        return [queue for queue, jobs in self.server.queues.items() if jobs]

    def members(self, place: Place) -> dict[bytes, float]:
        ranked = self.server.places[place]
        return {member: score for score, member in ranked.slice(0, len(ranked))}

    def privates(self) -> dict[tuple[str, str], dict[int, bytes]]:
        return {owner: dict(held) for owner, held in self.server.privates.items() if held}

    def inboxes(self) -> dict[tuple[str, str], list[bytes]]:
        return {owner: list(reversed(box)) for owner, box in self.server.inboxes.items() if box}

    def stat(self, name: str) -> int:
        return self.server.stats[name]

    def lock(self, token: str) -> tuple[str, float] | None:
        holder = self.server.holder(token)
        return (holder, self.server.locks[token][1] - self.now()) if holder else None

    def privs(self) -> set[tuple[str, str]]:
        return set(self.server.privs)

    def processes(self) -> set[str]:
        return set(self.server.processes)

    def waits(self) -> int:
        return sum(len(waiters) for waiters in self.server.waiters.values())

    def now(self) -> float:
        return self.clock.now()

    def drop_lease(self, ident: str) -> None:
        self.server.leases.pop(ident, None)

    def pause(self, queue: str) -> None:
        self.server.paused.add(queue)

    def signal(self, ident: str, name: str) -> None:
        self.server.signals[ident].append(name)

    def late_wait(self, ident: str, queue: str) -> None:
        self.server.inboxes[ident, queue].appendleft(self.server.queues[queue].pop())


class RedisWorld(World):
    """Over a real server, on real time."""

    suspicion_s = 0.2
    outlive_s = 0.5

    def __init__(self, server: TestServer, namespace: str = "") -> None:
        super().__init__()
        self.clock = SystemClock()
        self.server = server
        self.namespace = namespace

    def backend(self, ident: str, **options: Any) -> Backend:
        from kiqpy.store.redis.backend import RedisBackend

        times = {"suspicion_s": self.suspicion_s, "outlive_s": self.outlive_s}
        return RedisBackend(
            self.server.url, ident, namespace=self.namespace, **{**times, **options}
        )

    async def let_pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def cli(self, *args: str | bytes | int | float) -> Any:
        return self.server.cli(*args)

    def raw(self, *args: str | bytes | int | float) -> list[bytes]:
        return [text.encode(*UTF8) for text in self.cli(*args)]

    def key(self, name: str) -> str:
        return self.namespace + name

    def owners(self, kind: str) -> list[tuple[str, str]]:
        start = self.key(f"kiq:{kind}|")
        found = [key.removeprefix(start) for key in self.cli("KEYS", start + "*")]
        return [(member.split("|")[0], member.split("|")[1]) for member in found]

    def queue(self, queue: str) -> list[bytes]:
        return self.raw("LRANGE", self.key(f"queue:{queue}"), 0, -1)[::-1]

    def queues(self) -> list[str]:
        start = self.key("queue:")
        found = [key for key in self.cli("KEYS", start + "*") if self.cli("TYPE", key) == "list"]
        return [key.removeprefix(start) for key in found]

    def members(self, place: Place) -> dict[bytes, float]:
        if self.cli("TYPE", self.key(place)) != "zset":
            return {}
        flat = self.raw("ZRANGE", self.key(place), 0, -1, "WITHSCORES")
        return {flat[n]: float(flat[n + 1]) for n in range(0, len(flat), 2)}

    def privates(self) -> dict[tuple[str, str], dict[int, bytes]]:
        found: dict[tuple[str, str], dict[int, bytes]] = {}
        for owner in self.owners("private"):
            flat = self.raw("HGETALL", self.key(f"kiq:private|{owner[0]}|{owner[1]}"))
            found[owner] = {int(flat[n]): flat[n + 1] for n in range(0, len(flat), 2)}
        return found

    def inboxes(self) -> dict[tuple[str, str], list[bytes]]:
        return {
            owner: self.raw("LRANGE", self.key(f"kiq:inbox|{owner[0]}|{owner[1]}"), 0, -1)[::-1]
            for owner in self.owners("inbox")
        }

    def stat(self, name: str) -> int:
        key = "kiq:trimmed" if name == "trimmed" else f"stat:{name}"
        return int(self.cli("GET", self.key(key)) or 0)

    def lock(self, token: str) -> tuple[str, float] | None:
        key = self.key(f"unique:{token}")
        holder = self.cli("GET", key)
        return (holder, self.cli("PTTL", key) / 1000) if holder else None

    def privs(self) -> set[tuple[str, str]]:
        found = self.cli("SMEMBERS", self.key("kiq:privs"))
        return {(member.split("|")[0], member.split("|")[1]) for member in found}

    def processes(self) -> set[str]:
        return set(self.cli("SMEMBERS", self.key("processes")))

    def waits(self) -> int:
        told = self.cli("INFO", "clients")
        return int(told.split("blocked_clients:")[1].split()[0])

    def now(self) -> float:
        seconds, micros = self.cli("TIME")
        return int(seconds) + int(micros) / 1e6

    def drop_lease(self, ident: str) -> None:
        self.cli("DEL", self.key(f"kiq:lease:{ident}"))

    def pause(self, queue: str) -> None:
        self.cli("SADD", self.key("paused"), queue)

    def signal(self, ident: str, name: str) -> None:
        self.cli("LPUSH", self.key(f"{ident}-signals"), name)
        self.cli("EXPIRE", self.key(f"{ident}-signals"), 60)

    def late_wait(self, ident: str, queue: str) -> None:
        inbox = self.key(f"kiq:inbox|{ident}|{queue}")
        self.cli("LMOVE", self.key(f"queue:{queue}"), inbox, "RIGHT", "LEFT")


class Disturbed:
    """A backend whose server does something rude before every seventh call."""

    def __init__(self, backend: Backend, disturb: Callable[[], object]) -> None:
        self._backend, self._disturb = backend, disturb
        self._calls = 0

    def _count(self) -> None:
        self._calls += 1
        if self._calls % 7 == 0:
            self._disturb()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        if not callable(value) or name.startswith("_"):
            return value

        @functools.wraps(value)
        def call(*args: Any) -> Any:
            self._count()
            return value(*args)

        return _again(call) if name == "suspects" else call


class DisturbedWorld(RedisWorld):
    """A real server that forgets its scripts, or drops its clients, again and again."""

    def __init__(self, server: TestServer, *words: str) -> None:
        super().__init__(server)
        self._words = words
        self._planned: set[str] = set()  # processes with faults that a test has planned
        self.disturbed = 0

    def backend(self, ident: str, **options: Any) -> Backend:
        return cast("Backend", Disturbed(super().backend(ident, **options), self._disturb))

    async def process(self, *queues: str, **options: Any) -> Session:
        """A process that calls again when its connection was dropped, as every caller must."""
        session = await super().process(*queues, **options)
        if options.get("faults"):
            self._planned.add(session.ident)
        for verb in ("push", "unwait", "fetch", "settle", "holding", "promote", "rescue", "leave",
                     "wait"):  # fmt: skip
            setattr(session, verb, _again(getattr(session, verb)))
        for verb in ("sizes", "page", "queue_page"):
            setattr(session.census, verb, _again(getattr(session.census, verb)))
        return session

    def beat(self, session: Session, *queues: str, lease_s: float = 30.0) -> HeartbeatReply:
        try:
            return super().beat(session, *queues, lease_s=lease_s)
        except StoreUnavailable as error:
            if "gave no answer" not in str(error):  # a fault of the test's own
                raise
            return super().beat(session, *queues, lease_s=lease_s)

    async def rescued(self, by: Session) -> list[Any]:
        """A sweep without its connection reports what it has moved so far; the next one goes on."""
        found = await super().rescued(by)
        if by.ident in self._planned:
            return found
        with suppress(StoreRefused):
            found += (await by.rescue()).rescued
        return found

    def _disturb(self) -> None:
        self.disturbed += 1
        self.server.cli(*self._words)


def _again(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(verb)
    async def call(*args: Any, **options: Any) -> Any:
        for _ in range(4):
            try:
                return await verb(*args, **options)
            except StoreUnavailable as error:
                if "gave no answer" not in str(error):  # a fault of the test's own, or no lease
                    raise
        return await verb(*args, **options)

    return call

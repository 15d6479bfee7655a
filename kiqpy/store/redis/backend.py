"""The backend for Redis and Valkey: a verb names keys and arguments, a Lua script does the work."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast, final

from kiqpy.clock import Clock, SystemClock
from kiqpy.outcome import Bury, Lock, Verdict
from kiqpy.store import (
    Frame,
    Heartbeat,
    HeartbeatReply,
    OutgoingJob,
    Pushed,
    VerdictsRefused,
)
from kiqpy.store._backend import DueMembers, Fetched, LaneClaim, Orphan, PromotedJob, Suspect
from kiqpy.store.census import Place
from kiqpy.store.redis.calendar import RedisCalendar
from kiqpy.store.redis.census import RedisCensus
from kiqpy.store.redis.connections import WAIT_S, Arg, Connections, ServerFull, SingleServer
from kiqpy.store.redis.dead import DeadSet
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.lanes import RedisLanes
from kiqpy.store.redis.liveness import ProcessLock, is_dead, remove
from kiqpy.store.redis.strays import Strays
from kiqpy.store.redis.tracking import Tracker
from kiqpy.store.redis.wire import (
    STATE_TTL_MS,
    due_members,
    effect_words,
    is_plain,
    key_index,
    lane_words,
    order_of,
    process_fields,
    push_args,
    queue_of,
    ranges,
    refusal,
    results_of,
    utc_date,
    verdict_words,
)

if TYPE_CHECKING:
    from kiqpy.store.backups import Backups

_MAX_WAITERS: Final = 8  # queues that have a connection of their own to wait on
_MAX_MARKS_PER_CALL: Final = 1000


@final
class RedisBackend:
    """The steps of a `Backend` on one server, for one process."""

    def __init__(
        self,
        url: str,
        ident: str,
        *,
        namespace: str = "",
        dead_limit: int = 10_000,
        dead_timeout_s: float = 180 * 86_400.0,
        pool_size: int = 5,
        suspicion_s: float = 10.0,
        outlive_s: float = 600.0,
        poll_s: float = 0.5,
        options: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.ident = ident
        self._keys = Keys(namespace)
        self._connections = Connections(SingleServer(url, options or {}), pool_size)
        self._dead = DeadSet(self._connections, self._keys, dead_limit, dead_timeout_s)
        self.census = RedisCensus(self._connections, self._keys, self._dead)
        self.lanes = RedisLanes(self._connections, self._keys)
        self.calendar = RedisCalendar(self._connections, self._keys, ident)
        self._clock = clock or SystemClock()
        self._strays = Strays(self._connections, self._keys, self._clock)
        self._tracker = Tracker(self._connections, self._keys.queue(""), poll_s, self._clock)
        self._suspicion_ms = int(suspicion_s * 1000)
        self._outlive_ms = int(outlive_s * 1000)
        self._waiting: set[str] = set()
        # Every batch needs these names, and they change only with the day.
        self._fetch_names = functools.lru_cache(256)(self._key_names_of_fetch)
        self._settle_names = functools.lru_cache(256)(self._key_names_of_settle)
        self._lock = ProcessLock(ident)
        self._rtt_us = 0

    @property
    def backups(self) -> Backups:
        from kiqpy.store.redis.backups import RedisBackups  # few apps have local workers

        return RedisBackups(self._connections, self._keys, self.ident, self._clock)

    async def open(self) -> None:
        await self._connections.command("PING")

    async def close(self) -> None:
        self._lock.release()
        await self._tracker.close()
        await self._connections.close()

    # -- intake

    async def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]:
        keys = self._keys
        queues = key_index([queue for item in frame.items if (queue := queue_of(item))])
        locks = key_index([item.lock.token for item in frame.items if item.lock])
        args: list[Arg] = [frame.sequence, int(frame.atomic), len(queues), *queues]
        places = {keys.lock(token): n for token, n in locks.items()}
        args += push_args(frame.items, age_s, queues, locks, keys, places)
        names = [keys.push(frame.source), keys.queues, keys.schedule]
        names += [*map(keys.queue, queues), *places]
        return results_of(frame, await self._connections.call("push", names, args))

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        names = (self._keys.push(frame.source),)
        reply = await self._connections.call("withdraw", names, (frame.sequence,))
        return None if reply == b"withdrawn" else results_of(frame, reply)

    # -- source

    async def wait(self, queue: str, timeout_s: float) -> bool:
        keys = self._keys
        if queue not in self._waiting and len(self._waiting) >= _MAX_WAITERS:
            return await self._tracker.wait(keys.queue(queue), min(timeout_s, WAIT_S))
        self._waiting.add(queue)
        command = ("BLMOVE", keys.queue(queue), keys.inbox(self.ident, queue), "RIGHT", "LEFT")
        try:
            reply = await self._connections.wait(queue, (*command, min(timeout_s, WAIT_S)))
        except ServerFull:  # it refuses to move a job, but not to tell of one
            return await self._tracker.wait(keys.queue(queue), min(timeout_s, WAIT_S))
        return reply is not None

    async def unwait(self, queue: str) -> None:
        self._tracker.wake(self._keys.queue(queue))
        await self._connections.unwait(queue)
        keys = self._keys
        await self._connections.call(
            "unwait", (keys.inbox(self.ident, queue), keys.queue(queue)), ()
        )

    async def fetch(self, queue: str, limit: int, first: int) -> Fetched:
        args = (queue, limit, first, f"{self.ident}|{queue}")
        marked, *payloads = await self._connections.call("fetch", self._fetch_names(queue), args)
        return Fetched(payloads, float(marked or 0.0))

    def _key_names_of_fetch(self, queue: str) -> tuple[str, ...]:
        keys, ident = self._keys, self.ident
        return (
            keys.queue(queue),
            keys.private(ident, queue),
            keys.inbox(ident, queue),
            keys.lease(ident),
            keys.privs,
            keys.paused,
            keys.state(ident),
            keys.cancels,
        )

    def _key_names_of_settle(self, queue: str, day: int) -> tuple[str, ...]:
        keys, ident = self._keys, self.ident
        date = utc_date(day)
        return (
            keys.private(ident, queue),
            keys.state(ident),
            keys.queue(queue),
            keys.retry,
            keys.schedule,
            keys.dead,
            *keys.stats(date, queue),
        )

    async def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]:
        names = (self._keys.private(self.ident, queue), self._keys.state(self.ident))
        found = await self._connections.call("recover", names, (queue, first, last, STATE_TTL_MS))
        return {first + n: raw for n, raw in enumerate(found) if raw is not None}

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        keys, queue = self._keys, frame.source
        plain = sorted([v.delivery for v in frame.items if is_plain(v)])
        rest: list[Verdict] = []
        if len(plain) < len(frame.items):
            rest = sorted([v for v in frame.items if not is_plain(v)], key=order_of)
        places: dict[str, int] = {}
        args: list[Arg] = [queue, frame.sequence, STATE_TTL_MS, ranges(plain)]
        for verdict in rest:
            args += verdict_words(verdict, keys, places)
        names = (*self._settle_names(queue, int(self._clock.now() // 86_400)), *places)
        answer = cast("bytes", await self._connections.call("settle", names, args))
        if any(isinstance(verdict, Bury) for verdict in rest):
            await self._dead.trim()
        if answer == b"1" * len(frame.items):
            return [True] * len(frame.items)
        if b"w" in answer:
            raise VerdictsRefused(refusal(queue, rest, answer[len(plain) :], keys))
        ids = [*plain, *(verdict.delivery for verdict in rest)]
        kept = {n: one == ord("1") for n, one in zip(ids, answer, strict=True)}
        return [kept[verdict.delivery] for verdict in frame.items]

    async def heads(self, queue: str, claims: Sequence[LaneClaim]) -> list[bool]:
        keys = self._keys
        names = [keys.private(self.ident, queue), keys.queue(queue), *keys.lanes(queue)]
        names += [keys.waiting(queue, claim.lane) for claim in claims]
        answer = await self._connections.call("heads", names, lane_words(claims))
        return [mark == ord("1") for mark in answer]

    async def marks(self, after: float) -> list[tuple[str, float]]:
        command = ("ZRANGEBYSCORE", self._keys.cancels, f"({after:.6f}", "+inf", "WITHSCORES")
        found = await self._connections.command(*command, "LIMIT", 0, _MAX_MARKS_PER_CALL)
        return [
            (mark.decode(), float(at)) for mark, at in zip(found[::2], found[1::2], strict=True)
        ]

    async def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None:
        names = [self._keys.lock(lock.token) for _, lock in locks]
        await self._connections.call("unlock", names, [lock.owner(jid) for jid, lock in locks])

    async def held(self, ident: str, queue: str) -> dict[int, int]:
        found = await self._connections.call("held", (self._keys.private(ident, queue),), ())
        return {int(delivery): size for delivery, size in zip(found[::2], found[1::2], strict=True)}

    async def holding(self, ident: str, queue: str, deliveries: Sequence[int]) -> dict[int, bytes]:
        key = self._keys.private(ident, queue)
        found = await self._connections.command("HMGET", key, *deliveries)
        return {n: raw for n, raw in zip(deliveries, found, strict=True) if raw is not None}

    # -- maintenance

    async def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]:
        names = [self._keys.at(place) for place in places]
        now, *found = await self._connections.call("due", names, (limit,))
        return [due_members(float(now), each) for each in found]

    async def promote(self, place: Place, moves: Sequence[PromotedJob]) -> int:
        keys = self._keys
        queues = key_index(move.queue for move in moves if move.queue is not None)
        args: list[Arg] = [len(queues), *queues]
        places: dict[str, int] = {}
        for move in moves:
            args += (queues[move.queue] if move.queue else 0, move.member, move.payload)
            args += effect_words(move.effects, keys, places)
        names = [keys.at(place), keys.dead, keys.queues, *map(keys.queue, queues), *places]
        moved = int(await self._connections.call("promote", names, args))
        if any(move.queue is None for move in moves):
            await self._dead.trim()
        return moved

    async def suspects(self) -> list[Suspect]:
        await self._strays.look()
        members = await self._connections.command("SMEMBERS", self._keys.privs)
        found: list[Suspect] = []
        proven: set[str] = set()
        for member in sorted(members):
            ident, _, queue = member.decode().partition("|")
            if ident == self.ident:
                continue
            if proof := is_dead(ident):
                proven.add(ident)
            if suspect := await self._suspect(ident, queue, proof):
                found.append(suspect)
        for ident in proven.difference(suspect.ident for suspect in found):
            remove(ident)
        return found

    async def _suspect(self, ident: str, queue: str, proof: bool) -> Suspect | None:
        keys = self._keys
        names = (
            keys.lease(ident),
            keys.suspects,
            keys.private(ident, queue),
            keys.inbox(ident, queue),
            keys.privs,
        )
        args = (f"{ident}|{queue}", self._suspicion_ms, self._outlive_ms, int(proof))
        state = await self._connections.call("suspect", names, args)
        if state in (b"alive", b"empty"):
            return None
        return Suspect(ident, queue, confirmed=state == b"confirmed")

    async def rescue(self, suspect: Suspect, orphans: Sequence[Orphan], sequence: int) -> set[int]:
        keys, (ident, queue, _) = self._keys, suspect
        names = (
            keys.private(ident, queue),
            keys.queue(queue),
            keys.inbox(ident, queue),
            keys.lease(ident),
            keys.suspects,
            keys.dead,
            keys.schedule,
            keys.state(self.ident),
        )
        args: list[Arg] = [f"{ident}|{queue}", self._suspicion_ms, sequence, STATE_TTL_MS]
        places: dict[str, int] = {}
        for orphan in orphans:
            args += (orphan.delivery, orphan.payload, int(orphan.poison), orphan.in_s)
            args += effect_words(orphan.effects, keys, places)
        moved = await self._connections.call("rescue", (*names, *places), args)
        if any(orphan.poison for orphan in orphans):
            await self._dead.trim()
        return {int(delivery) for delivery in moved}

    def beat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        keys, ident, queues = self._keys, self.ident, heartbeat.queues
        self._lock.acquire()
        names = [keys.lease(ident), keys.process(ident), keys.processes, keys.privs]
        names += [keys.signals(ident), keys.state(ident), *keys.work(ident)]
        for queue in queues:
            names += [keys.private(ident, queue), keys.inbox(ident, queue)]
        fields = process_fields(heartbeat, self._rtt_us)
        args: list[Arg] = [
            ident,
            int(heartbeat.lease_s * 1000),
            len(queues),
            *queues,
            STATE_TTL_MS,
        ]
        args += [2 * len(fields), *_flat(fields), *_flat(heartbeat.work)]
        sent = self._clock.monotonic()
        signal, *counts = self._connections.call_now("beat", names, args)
        self._rtt_us = int((self._clock.monotonic() - sent) * 1e6)
        held = dict(zip(queues, counts[::2], strict=True))
        inbox = dict(zip(queues, counts[1::2], strict=True))
        return HeartbeatReply(signal.decode() if signal else None, held, inbox)

    async def leave(self) -> None:
        keys, ident = self._keys, self.ident
        names = (keys.lease(ident), keys.process(ident), keys.processes, *keys.work(ident))
        await self._connections.call("leave", names, (ident,))
        self._lock.release()


def _flat(fields: Mapping[str, Arg]) -> list[Arg]:
    """Names and values in one list."""
    return [word for pair in fields.items() for word in pair]

"""The backend for Redis and Valkey: each verb names its keys, and one Lua script does the rest."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, final

from kiqpy.clock import Clock, SystemClock
from kiqpy.errors import StoreError
from kiqpy.outcome import Bury, Lock, Verdict
from kiqpy.store import Frame, Heartbeat, HeartbeatReply, OutgoingJob, Pushed
from kiqpy.store._session import DueMembers, Fetched, Move, Orphan, Suspect
from kiqpy.store.census import Place
from kiqpy.store.redis.calendar import RedisCalendar
from kiqpy.store.redis.census import RedisCensus
from kiqpy.store.redis.connections import WAIT_S, Arg, Link
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.liveness import LifeSign, forget, is_dead
from kiqpy.store.redis.tracking import Tracker
from kiqpy.store.redis.wire import (
    effect_words,
    is_plain,
    numbered,
    order_of,
    queue_of,
    ranges,
    results_of,
    storing,
    verdict_words,
)

_STATE_TTL_MS: Final = 86_400_000  # a process's notes outlive its last sign of life by a day
_SCAN_EVERY_S: Final = 3600.0
_MAX_WAITERS: Final = 8
_MARKS: Final = 1000  # a page


@final
class RedisBackend:
    """Atomic steps on one server, for one process. See `Backend` for what each must guarantee."""

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
        self._link = Link(url, pool_size, options or {})
        self.census = RedisCensus(self._link, self._keys, (dead_limit, dead_timeout_s))
        self.calendar = RedisCalendar(self._link, self._keys, ident)
        self._clock = clock or SystemClock()
        self._tracker = Tracker(self._link, self._keys.queue(""), poll_s, self._clock)
        self._dead: tuple[Arg, Arg] = (dead_limit, dead_timeout_s)
        self._suspicion_ms, self._outlive_ms = int(suspicion_s * 1000), int(outlive_s * 1000)
        self._waiting: set[str] = set()
        # Asked for with each batch, and always the same but for the day.
        self._fetch_names = functools.lru_cache(256)(self._key_names_of_fetch)
        self._settle_names = functools.lru_cache(256)(self._key_names_of_settle)
        self._life = LifeSign(ident)
        self._rtt_us = 0
        self._last_scan = float("-inf")

    async def open(self) -> None:
        await self._link.command("PING")

    async def close(self) -> None:
        self._life.drop()
        await self._tracker.close()
        await self._link.close()

    # -- intake

    async def push(self, frame: Frame[OutgoingJob], age_s: float) -> list[Pushed]:
        keys = self._keys
        queues = list(dict.fromkeys([queue for p in frame.items if (queue := queue_of(p))]))
        index = {queue: n for n, queue in enumerate(queues, 1)}
        locks = numbered([parcel.lock.token for parcel in frame.items if parcel.lock])
        args: list[Arg] = [frame.sequence, int(frame.atomic), len(queues), *queues]
        args += storing(frame.items, age_s, index, locks)
        names = [keys.push(frame.source), keys.queues, keys.schedule]
        names += [keys.queue(queue) for queue in queues] + [keys.lock(token) for token in locks]
        return results_of(frame, await self._link.call("push", names, args))

    # -- source

    async def wait(self, queue: str, timeout_s: float) -> bool:
        keys = self._keys
        if queue not in self._waiting and len(self._waiting) >= _MAX_WAITERS:
            return await self._tracker.wait(keys.queue(queue), min(timeout_s, WAIT_S))
        self._waiting.add(queue)
        words = ("BLMOVE", keys.queue(queue), keys.inbox(self.ident, queue), "RIGHT", "LEFT")
        return await self._link.wait(queue, (*words, min(timeout_s, WAIT_S))) is not None

    async def unwait(self, queue: str) -> None:
        self._tracker.wake(self._keys.queue(queue))
        await self._link.unwait(queue)
        keys = self._keys
        await self._link.call("unwait", (keys.inbox(self.ident, queue), keys.queue(queue)), ())

    async def fetch(self, queue: str, limit: int, first: int) -> Fetched:
        args = (queue, limit, first, f"{self.ident}|{queue}")
        marked, *payloads = await self._link.call("fetch", self._fetch_names(queue), args)
        return Fetched(payloads, float(marked or 0.0))

    def _key_names_of_fetch(self, queue: str) -> tuple[str, ...]:
        keys, ident = self._keys, self.ident
        return (
            keys.queue(queue), keys.private(ident, queue), keys.inbox(ident, queue),
            keys.lease(ident), keys.privs, keys.paused, keys.state(ident), keys.cancels,
        )  # fmt: skip

    def _key_names_of_settle(self, queue: str, day: int) -> tuple[str, ...]:
        keys, ident = self._keys, self.ident
        date = datetime.datetime.fromtimestamp(day * 86_400, datetime.UTC).strftime("%Y-%m-%d")
        return (
            keys.private(ident, queue), keys.state(ident), keys.queue(queue),
            keys.retry, keys.schedule, keys.dead, *keys.stats(date, queue),
        )  # fmt: skip

    async def recover(self, queue: str, first: int, last: int) -> dict[int, bytes]:
        names = (self._keys.private(self.ident, queue), self._keys.state(self.ident))
        found = await self._link.call("recover", names, (queue, first, last, _STATE_TTL_MS))
        return {first + n: raw for n, raw in enumerate(found) if raw is not None}

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        keys, queue = self._keys, frame.source
        plain = sorted([v.delivery for v in frame.items if is_plain(v)])
        rest = sorted([v for v in frame.items if not is_plain(v)], key=order_of)
        places: dict[str, int] = {}
        args: list[Arg] = [queue, frame.sequence, _STATE_TTL_MS, ranges(plain)]
        for verdict in rest:
            args += verdict_words(verdict, keys, places)
        names = (*self._settle_names(queue, int(self._clock.now() // 86_400)), *places)
        answer = cast("bytes", await self._link.call("settle", names, args))
        if any(isinstance(verdict, Bury) for verdict in rest):
            await self._trim()
        if answer == b"1" * len(frame.items):
            return [True] * len(frame.items)
        ids = [*plain, *(verdict.delivery for verdict in rest)]
        kept = {n: one == ord("1") for n, one in zip(ids, answer, strict=True)}
        return [kept[verdict.delivery] for verdict in frame.items]

    async def marks(self, after: float) -> list[tuple[str, float]]:
        words = ("ZRANGEBYSCORE", self._keys.cancels, f"({after:.6f}", "+inf", "WITHSCORES")
        found = await self._link.command(*words, "LIMIT", 0, _MARKS)
        return [
            (mark.decode(), float(at)) for mark, at in zip(found[::2], found[1::2], strict=True)
        ]

    async def unlock(self, locks: Sequence[tuple[str, Lock]]) -> None:
        names = [self._keys.lock(lock.token) for _, lock in locks]
        await self._link.call("unlock", names, [lock.owner(jid) for jid, lock in locks])

    async def holding(self, ident: str, queue: str) -> dict[int, bytes]:
        found: Any = await self._link.command("HGETALL", self._keys.private(ident, queue))
        if isinstance(found, dict):
            held = cast("dict[bytes, bytes]", found)
        else:
            held = dict(zip(found[::2], found[1::2], strict=True))
        return {int(delivery): raw for delivery, raw in held.items()}

    # -- upkeep

    async def due(self, places: Sequence[Place], limit: int) -> list[DueMembers]:
        now, *found = await self._link.call("due", [self._place(p) for p in places], (limit,))
        return [
            DueMembers(float(now), members, None if upcoming is None else float(upcoming))
            for upcoming, *members in found
        ]

    async def promote(self, place: Place, moves: Sequence[Move]) -> int:
        keys = self._keys
        queues = list(dict.fromkeys(move.queue for move in moves if move.queue is not None))
        index = {queue: n for n, queue in enumerate(queues, 1)}
        args: list[Arg] = [len(queues), *queues]
        for move in moves:
            args += (index[move.queue] if move.queue else 0, move.member, move.payload)
        names = [self._place(place), keys.dead, keys.queues, *map(keys.queue, queues)]
        moved = int(await self._link.call("promote", names, args))
        if any(move.queue is None for move in moves):
            await self._trim()
        return moved

    async def suspects(self) -> list[Suspect]:
        await self._find_strays()
        members = await self._link.command("SMEMBERS", self._keys.privs)
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
            forget(ident)
        return found

    async def _suspect(self, ident: str, queue: str, proof: bool) -> Suspect | None:
        keys = self._keys
        names = (
            keys.lease(ident), keys.suspects, keys.private(ident, queue),
            keys.inbox(ident, queue), keys.privs,
        )  # fmt: skip
        args = (f"{ident}|{queue}", self._suspicion_ms, self._outlive_ms, int(proof))
        state = await self._link.call("suspect", names, args)
        if state in (b"alive", b"empty"):
            return None
        return Suspect(ident, queue, confirmed=state == b"confirmed")

    async def _find_strays(self) -> None:
        """Once an hour: claims whose process is not on the list, whatever may have lost it."""
        if self._clock.monotonic() - self._last_scan < _SCAN_EVERY_S:
            return
        self._last_scan = self._clock.monotonic()
        for pattern in self._keys.strays():
            cursor: Arg = 0
            while True:
                cursor, names = await self._link.command(
                    "SCAN", cursor, "MATCH", pattern, "COUNT", 1000
                )
                members = [self._keys.member(name.decode()) for name in names]
                if members:
                    await self._link.command("SADD", self._keys.privs, *members)
                if int(cursor) == 0:
                    break

    async def rescue(self, suspect: Suspect, orphans: Sequence[Orphan]) -> set[int]:
        keys, (ident, queue, _) = self._keys, suspect
        names = (
            keys.private(ident, queue), keys.queue(queue), keys.inbox(ident, queue),
            keys.lease(ident), keys.suspects, keys.dead, keys.schedule,
        )  # fmt: skip
        args: list[Arg] = [f"{ident}|{queue}", self._suspicion_ms]
        places: dict[str, int] = {}
        for orphan in orphans:
            args += (orphan.delivery, orphan.payload, int(orphan.poison), orphan.in_s)
            args += effect_words(orphan.effects, keys, places)
        moved = await self._link.call("rescue", (*names, *places), args)
        if any(orphan.poison for orphan in orphans):
            await self._trim()
        return {int(delivery) for delivery in moved}

    async def _trim(self) -> None:
        """What was buried is done; if this gets no answer, the next burial trims."""
        with contextlib.suppress(StoreError):
            await self._link.call("trim", (self._keys.dead, self._keys.trimmed), self._dead)

    def beat(self, pulse: Heartbeat) -> HeartbeatReply:
        keys, ident, queues = self._keys, self.ident, pulse.queues
        self._life.hold()
        names = [keys.lease(ident), keys.process(ident), keys.processes, keys.privs]
        names += [keys.signals(ident), keys.state(ident), *keys.work(ident)]
        for queue in queues:
            names += [keys.private(ident, queue), keys.inbox(ident, queue)]
        fields: list[Arg] = [
            "info", pulse.info, "concurrency", pulse.concurrency, "busy", pulse.busy,
            "quiet", "true" if pulse.quiet else "false", "rss", pulse.rss_kb,
            "rtt_us", self._rtt_us,
        ]  # fmt: skip
        args: list[Arg] = [ident, int(pulse.lease_s * 1000), len(queues), *queues, _STATE_TTL_MS]
        args += [len(fields), *fields, *(word for pair in pulse.work.items() for word in pair)]
        sent = self._clock.monotonic()
        signal, *counts = self._link.call_now("beat", names, args)
        self._rtt_us = int((self._clock.monotonic() - sent) * 1e6)
        held = dict(zip(queues, counts[::2], strict=True))
        inbox = dict(zip(queues, counts[1::2], strict=True))
        return HeartbeatReply(signal.decode() if signal else None, held, inbox)

    async def leave(self) -> None:
        keys, ident = self._keys, self.ident
        names = (keys.lease(ident), keys.process(ident), keys.processes, *keys.work(ident))
        await self._link.call("leave", names, (ident,))
        self._life.drop()

    def _place(self, place: Place) -> str:
        return cast("str", getattr(self._keys, place))

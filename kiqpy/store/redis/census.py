"""What there is on the server, and what an operator may do about it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast, final

from kiqpy.errors import StoreError
from kiqpy.store.census import (
    CANCELS_KEPT_S,
    PLACES,
    PROCESS_FIELDS,
    Counters,
    Entry,
    Place,
    Process,
    QueueRow,
    RunningJob,
    Scan,
    Transfer,
    busy_row,
    entry,
    process_row,
    queue_row,
    whole_number,
)
from kiqpy.store.redis.connections import Arg, Link
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.wire import effect_words

T = TypeVar("T")
_PAGE: Final = 100  # keys or entries in one step
_PAGE_BYTES: Final = 4 * 2**20
_COMPARED: Final = 100_000  # entries of a queue in one step, unless one job alone takes more
_MOST: Final = 10_000  # queues or processes listed


@final
class RedisCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, link: Link, keys: Keys, dead: tuple[Arg, Arg]) -> None:
        self._link = link
        self._keys = keys
        self._dead = dead  # the dead set's limit, and its age in seconds

    # -- what there is

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        names = [*queues, *PLACES]
        keys = [*map(self._keys.queue, queues), *map(self._keys.at, PLACES)]
        return dict(zip(names, await self._link.call("sizes", keys, ()), strict=True))

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        verb = "ZREVRANGE" if last_first else "ZRANGE"
        words = (verb, self._keys.at(place), start, start + count - 1, "WITHSCORES")
        return _scored(await self._link.command(*words))

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        span = (start, start + count - 1) if newest else (-(start + count), -(start + 1))
        found = cast(
            "list[bytes]", await self._link.command("LRANGE", self._keys.queue(queue), *span)
        )
        return [entry(raw) for raw in (found if newest else reversed(found))]

    async def scored(self, place: Place, score: float) -> list[Entry]:
        text = repr(score)
        words = ("ZRANGEBYSCORE", self._keys.at(place), text, text, "WITHSCORES")
        return _scored(await self._link.command(*words, "LIMIT", 0, _PAGE))

    async def scan(self, place: str, texts: Sequence[str], cursor: str, count: int) -> Scan:
        keys = (self._keys.at(place),)
        reply = await self._link.call("scan", keys, (cursor, count, *texts))
        pairs = zip(reply[2::2], reply[3::2], strict=True)
        found = [entry(raw, None if score is None else float(score)) for raw, score in pairs]
        return Scan(found, int(reply[1]), reply[0].decode() or None)

    async def queues(self, also: Sequence[str] = ()) -> list[QueueRow]:
        names = {*also, *[name async for name in self._members(self._keys.queues)]}
        rows: list[QueueRow] = []
        for part in _parts(sorted(names)):
            keys = [self._keys.paused, *map(self._keys.queue, part)]
            now, *found = await self._link.call("queues", keys, part)
            told = zip(part, found[::3], found[1::3], found[2::3], strict=True)
            rows += [queue_row(name, n, old, bool(p), float(now)) for name, n, old, p in told]
        return rows

    async def counters(self, days: Sequence[str], queues: Sequence[str]) -> Counters:
        names = ["", *(f":{day}" for day in days), *(f":{queue}" for queue in queues)]
        keys = [self._keys.stat(f"{what}{of}") for of in names for what in ("processed", "failed")]
        found = [whole_number(text) for text in await self._link.command("MGET", *keys)]
        total, *rest = zip(found[::2], found[1::2], strict=True)
        return Counters(
            total,
            dict(zip(days, rest, strict=False)),
            dict(zip(queues, rest[len(days) :], strict=True)),
        )

    async def processes(self) -> list[Process]:
        idents = sorted([ident async for ident in self._members(self._keys.processes)])
        rows: list[Process] = []
        for part in _parts(idents):
            keys = [self._keys.process(ident) for ident in part]
            found = await self._link.call("processes", keys, PROCESS_FIELDS)
            width = len(PROCESS_FIELDS)
            for n, ident in enumerate(part):
                values = found[n * width : (n + 1) * width]
                row = process_row(ident, dict(zip(PROCESS_FIELDS, values, strict=True)))
                rows += [row] if row else []
        return rows

    async def busy(self, idents: Sequence[str]) -> list[RunningJob]:
        rows: list[RunningJob] = []
        for ident in idents:
            for key in self._keys.work(ident):  # as Sidekiq from 6.5 on writes it, else as 6.4
                if told := await self._link.command("HVALS", key):
                    rows += [busy_row(ident, text) for text in told]
                    break
        return rows

    async def paused(self) -> list[str]:
        return sorted([name async for name in self._members(self._keys.paused)])

    async def _members(self, key: str) -> AsyncIterator[str]:
        """The members of a set, `_MOST` of them; each once."""
        cursor: Arg = 0
        seen: set[str] = set()
        while len(seen) < _MOST:
            cursor, found = await self._link.command("SSCAN", key, cursor, "COUNT", 1000)
            for name in {member.decode(errors="replace") for member in found} - seen:
                seen.add(name)
                yield name
            if int(cursor) == 0:
                return

    # -- acts

    async def transfer(self, place: str, transfers: Sequence[Transfer]) -> list[bool]:
        done: list[bool] = []
        page = await self._page_size(place) if transfers else _PAGE
        for part in _weighed(transfers, page):
            names, args = self._told(place, part)
            answer = cast("bytes", await self._link.call("transfer", names, args))
            done += [one == ord("1") for one in answer]
        if any(one.to == "dead" for one in transfers):
            await self._trim()
        return done

    async def _page_size(self, place: str) -> int:
        if not place.startswith("queue:"):
            return _PAGE
        size = int(await self._link.command("LLEN", self._keys.at(place)))
        return max(1, min(_PAGE, _COMPARED // max(1, size)))

    def _told(self, place: str, part: Sequence[Transfer]) -> tuple[list[str], list[Arg]]:
        keys = self._keys
        queues = list(dict.fromkeys(one.queue for one in part if one.to == "queue"))
        index = {queue: n for n, queue in enumerate(queues, 1)}
        places: dict[str, int] = {}
        args: list[Arg] = ["queue" if place.startswith("queue:") else "set", len(queues), *queues]
        for one in part:
            args += (one.member, one.to, one.payload, one.jid, index.get(one.queue, 0))
            args += effect_words(one.effects, keys, places)
        names = [keys.at(place), keys.dead, keys.queues, keys.cancels]
        names += [*map(keys.queue, queues), *places]
        return names, args

    async def _trim(self) -> None:
        """What was buried is done; if this gets no answer, the next burial trims."""
        with contextlib.suppress(StoreError):
            await self._link.call("trim", (self._keys.dead, self._keys.trimmed), self._dead)

    async def clear(self, place: str) -> int:
        name = place.removeprefix("queue:") if place.startswith("queue:") else ""
        keys = (self._keys.at(place), self._keys.queues)
        return int(await self._link.call("clear", keys, (name,)))

    async def clear_all(self) -> int:
        """SCAN, never KEYS; the processes' own keys are found by their list."""
        idents = [ident async for ident in self._members(self._keys.processes)]
        dropped = 0
        for part in _parts(idents):
            keys = [key for ident in part for key in self._keys.of_process(ident)]
            dropped += int(await self._link.command("UNLINK", *keys))
        dropped += int(await self._link.command("UNLINK", *self._keys.named()))
        for pattern in self._keys.patterns():
            cursor: Arg = 0
            while True:
                words = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                cursor, names = await self._link.command(*words)
                if names:
                    dropped += int(await self._link.command("UNLINK", *names))
                if int(cursor) == 0:
                    break
        return dropped

    async def reset_counters(self) -> None:
        await self._link.command("UNLINK", *map(self._keys.stat, ("processed", "failed")))

    async def prune(self) -> int:
        idents = [ident async for ident in self._members(self._keys.processes)]
        pruned = 0
        for part in _parts(idents):
            keys = [self._keys.processes, *map(self._keys.process, part)]
            pruned += int(await self._link.call("prune", keys, part))
        return pruned

    async def pause(self, queue: str) -> bool:
        return bool(await self._link.command("SADD", self._keys.paused, queue))

    async def resume(self, queue: str) -> bool:
        return bool(await self._link.command("SREM", self._keys.paused, queue))

    async def signal(self, ident: str, name: str) -> bool:
        keys = (self._keys.process(ident), self._keys.signals(ident))
        return bool(await self._link.call("signal", keys, (name,)))

    async def cancel(self, jid: str, keep: bool) -> None:
        args = (jid, "+" if keep else "-", CANCELS_KEPT_S)
        await self._link.call("cancel", (self._keys.cancels,), args)


def _scored(found: Sequence[Any]) -> list[Entry]:
    pairs = zip(found[::2], found[1::2], strict=True)
    return [entry(raw, float(score)) for raw, score in pairs]


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[n : n + _PAGE] for n in range(0, len(items), _PAGE))


def _weighed(transfers: Iterable[Transfer], most: int) -> Iterator[list[Transfer]]:
    """In order, in parts of at most so many, and of few MiB."""
    part: list[Transfer] = []
    size = 0
    for one in transfers:
        size += len(one.member) + len(one.payload)
        if part and (len(part) >= most or size > _PAGE_BYTES):
            yield part
            part, size = [], len(one.member) + len(one.payload)
        part.append(one)
    if part:
        yield part

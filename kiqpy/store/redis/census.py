"""The part of a store for operators, on a Redis server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, TypeVar, cast, final

from kiqpy._flow.pages import pages
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
    SearchPage,
    Transfer,
    busy_row,
    counted,
    entry,
    process_row,
    queue_row,
    readable,
    whole_number,
)
from kiqpy.store.redis.connections import Arg, Connections
from kiqpy.store.redis.dead import DeadSet
from kiqpy.store.redis.keys import Keys
from kiqpy.store.redis.wire import effect_words, key_index

T = TypeVar("T")
_MAX_PER_STEP: Final = 100  # keys or entries that one atomic step takes
_MAX_BYTES_PER_STEP: Final = 4 * 2**20
_MAX_COMPARED_PER_STEP: Final = 100_000  # entries of a queue; one job may need more comparisons
_MAX_LISTED: Final = 10_000  # queues or processes


@final
class RedisCensus:
    """See `kiqpy.store.census`."""

    def __init__(self, connections: Connections, keys: Keys, dead: DeadSet) -> None:
        self._connections = connections
        self._keys = keys
        self._dead = dead

    # -- inspect

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        names = [*queues, *PLACES]
        keys = [*map(self._keys.queue, queues), *map(self._keys.at, PLACES)]
        return dict(zip(names, await self._connections.call("sizes", keys, ()), strict=True))

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        verb = "ZREVRANGE" if last_first else "ZRANGE"
        command = (verb, self._keys.at(place), start, start + count - 1, "WITHSCORES")
        return _entries(await self._connections.command(*command))

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        span = (start, start + count - 1) if newest else (-(start + count), -(start + 1))
        found = cast(
            "list[bytes]", await self._connections.command("LRANGE", self._keys.queue(queue), *span)
        )
        return [entry(raw) for raw in (found if newest else reversed(found))]

    async def by_score(self, place: Place, score: float) -> list[Entry]:
        text = repr(score)
        command = ("ZRANGEBYSCORE", self._keys.at(place), text, text, "WITHSCORES")
        return _entries(await self._connections.command(*command, "LIMIT", 0, _MAX_PER_STEP))

    async def search(self, place: str, texts: Sequence[str], cursor: str, count: int) -> SearchPage:
        keys = (self._keys.at(place),)
        reply = await self._connections.call("search", keys, (cursor, count, *texts))
        pairs = zip(reply[2::2], reply[3::2], strict=True)
        found = [entry(raw, None if score is None else float(score)) for raw, score in pairs]
        return SearchPage(found, int(reply[1]), reply[0].decode() or None)

    async def queues(self, also: Sequence[str] = ()) -> list[QueueRow]:
        names = {*also, *[name async for name in self._members(self._keys.queues)]}
        rows: list[QueueRow] = []
        for part in _parts(sorted(names)):
            keys = [self._keys.paused, *map(self._keys.queue, part)]
            now, *found = await self._connections.call("queues", keys, part)
            columns = zip(part, found[::3], found[1::3], found[2::3], strict=True)
            rows += [
                queue_row(name, size, oldest, bool(paused), float(now))
                for name, size, oldest, paused in columns
            ]
        return rows

    async def counters(self, days: Sequence[str], queues: Sequence[str]) -> Counters:
        names = ["", *(f":{day}" for day in days), *(f":{counted(queue)}" for queue in queues)]
        keys = [self._keys.stat(f"{what}{of}") for of in names for what in ("processed", "failed")]
        found = [whole_number(text) for text in await self._connections.command("MGET", *keys)]
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
            found = await self._connections.call("processes", keys, PROCESS_FIELDS)
            width = len(PROCESS_FIELDS)
            for n, ident in enumerate(part):
                values = found[n * width : (n + 1) * width]
                row = process_row(ident, dict(zip(PROCESS_FIELDS, values, strict=True)))
                rows += [row] if row else []
        return rows

    async def busy(self, idents: Sequence[str]) -> list[RunningJob]:
        rows: list[RunningJob] = []
        for ident in idents:
            for key in self._keys.work(ident):  # a process writes one of them, or the same in both
                if found := await self._connections.command("HVALS", key):
                    rows += [busy_row(ident, text) for text in found]
                    break
        return rows

    async def claimed(self, texts: Sequence[str]) -> list[RunningJob]:
        rows: dict[tuple[str, bytes], RunningJob] = {}  # a scan may find a job twice
        async for holders in self._holders():
            keys = [key for holder in holders for key in self._holding(*holder)]
            async for number, raw in self._matches(keys, texts):
                ident, queue = holders[(number - 1) // 2]
                rows[ident, raw] = RunningJob(ident, queue, readable(raw), raw, None)
        return [*rows.values()]

    async def _matches(
        self, keys: Sequence[str], texts: Sequence[str]
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Each payload with one of the texts, and the number of its key."""
        number, cursor = 1, b"0"
        while number:
            args: tuple[Arg, ...] = (number, cursor, *texts)
            number, cursor, *found = await self._connections.call("claimed", keys, args)
            for n, raw in zip(found[::2], found[1::2], strict=True):
                yield int(n), raw

    def _holding(self, ident: str, queue: str) -> tuple[str, str]:
        return self._keys.private(ident, queue), self._keys.inbox(ident, queue)

    async def _holders(self) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Processes, each with one of its queues, in pages."""
        members = [member async for member in self._members(self._keys.privs)]
        for part in _parts(sorted(members)):
            yield [(ident, queue) for ident, _, queue in (each.partition("|") for each in part)]

    async def paused(self) -> list[str]:
        return sorted([name async for name in self._members(self._keys.paused)])

    async def _members(self, key: str) -> AsyncIterator[str]:
        """The members of a set, each once; stops after about `_MAX_LISTED`."""
        seen: set[str] = set()
        async for found in self._connections.scan_set(key):
            fresh = {member.decode(errors="replace") for member in found} - seen
            seen |= fresh
            for name in fresh:
                yield name
            if len(seen) >= _MAX_LISTED:
                return

    # -- change

    async def transfer(self, place: str, transfers: Sequence[Transfer]) -> list[bool]:
        done: list[bool] = []
        limit = await self._page_size(place) if transfers else _MAX_PER_STEP
        for part in pages(transfers, limit, _MAX_BYTES_PER_STEP, _size_of):
            names, args = self._transfer_words(place, part)
            answer = cast("bytes", await self._connections.call("transfer", names, args))
            done += [mark == ord("1") for mark in answer]
        if any(transfer.to == "dead" for transfer in transfers):
            await self._dead.trim()
        return done

    async def _page_size(self, place: str) -> int:
        if not place.startswith("queue:"):
            return _MAX_PER_STEP
        size = int(await self._connections.command("LLEN", self._keys.at(place)))
        return max(1, min(_MAX_PER_STEP, _MAX_COMPARED_PER_STEP // max(1, size)))

    def _transfer_words(self, place: str, part: Sequence[Transfer]) -> tuple[list[str], list[Arg]]:
        keys = self._keys
        queues = key_index(move.queue for move in part if move.to == "queue")
        places: dict[str, int] = {}
        args: list[Arg] = ["queue" if place.startswith("queue:") else "set", len(queues), *queues]
        for move in part:
            args += (move.member, move.to, move.payload, move.jid, queues.get(move.queue, 0))
            args += effect_words(move.effects, keys, places)
        names = [keys.at(place), keys.dead, keys.queues, keys.cancels]
        names += [*map(keys.queue, queues), *places]
        return names, args

    async def clear(self, place: str) -> int:
        name = place.removeprefix("queue:") if place.startswith("queue:") else ""
        keys = (self._keys.at(place), self._keys.queues)
        return int(await self._connections.call("clear", keys, (name,)))

    async def clear_all(self) -> int:
        """Keys named by an ident fit no pattern, so the list of processes says which there are."""
        idents = [ident async for ident in self._members(self._keys.processes)]
        dropped = 0
        for part in _parts(idents):
            keys = [key for ident in part for key in self._keys.of_process(ident)]
            dropped += int(await self._connections.command("UNLINK", *keys))
        dropped += int(await self._connections.command("UNLINK", *self._keys.named()))
        for pattern in self._keys.patterns():
            async for names in self._connections.scan_keys(pattern):
                if names:
                    dropped += int(await self._connections.command("UNLINK", *names))
        return dropped

    async def reset_counters(self) -> None:
        await self._connections.command("UNLINK", *map(self._keys.stat, ("processed", "failed")))

    async def prune(self) -> int:
        idents = [ident async for ident in self._members(self._keys.processes)]
        pruned = 0
        for part in _parts(idents):
            keys = [self._keys.processes]
            for ident in part:
                keys += (self._keys.process(ident), self._keys.lease(ident))
            pruned += int(await self._connections.call("prune", keys, part))
        return pruned

    async def pause(self, queue: str) -> bool:
        return bool(await self._connections.command("SADD", self._keys.paused, queue))

    async def resume(self, queue: str) -> bool:
        return bool(await self._connections.command("SREM", self._keys.paused, queue))

    async def signal(self, ident: str, name: str) -> bool:
        keys = (self._keys.process(ident), self._keys.signals(ident))
        return bool(await self._connections.call("signal", keys, (name,)))

    async def cancel(self, jid: str, keep: bool) -> None:
        args = (jid, "+" if keep else "-", CANCELS_KEPT_S)
        await self._connections.call("cancel", (self._keys.cancels,), args)


def _entries(found: Sequence[Any]) -> list[Entry]:
    pairs = zip(found[::2], found[1::2], strict=True)
    return [entry(raw, float(score)) for raw, score in pairs]


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[n : n + _MAX_PER_STEP] for n in range(0, len(items), _MAX_PER_STEP))


def _size_of(transfer: Transfer) -> int:
    return len(transfer.member) + len(transfer.payload)

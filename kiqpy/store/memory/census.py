"""The part of a store for operators, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, cast, final

from kiqpy.store import Heartbeat
from kiqpy.store.census import (
    CANCELS_KEPT_S,
    PLACES,
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
)
from kiqpy.store.memory.effects import run_effects
from kiqpy.store.memory.server import MemoryServer

_SHOWN_FOR_S: Final = 60.0  # after the last heartbeat of a process


@final
class MemoryCensus:
    """See `kiqpy.store.census`. `bury` puts bytes into the dead set and trims it."""

    def __init__(self, server: MemoryServer, bury: Callable[[bytes], None]) -> None:
        self._server = server
        self._bury = bury

    # -- inspect

    async def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        sizes = {queue: self._size(f"queue:{queue}") for queue in queues}
        return sizes | {place: self._size(place) for place in PLACES}

    def _size(self, place: str) -> int:
        if place.startswith("queue:"):
            return len(self._server.queues.get(place[6:], ()))
        return len(self._server.places[_place(place)])

    async def page(
        self, place: Place, start: int, count: int, *, last_first: bool = False
    ) -> list[Entry]:
        members = self._server.places[place]
        if last_first:
            end = len(members) - start
            found = members.slice(max(0, end - count), max(0, end))[::-1]
        else:
            found = members.slice(start, start + count)
        return [entry(member, score) for score, member in found]

    async def queue_page(
        self, queue: str, start: int, count: int, *, newest: bool = False
    ) -> list[Entry]:
        jobs = self._server.queues.get(queue, ())
        side = iter(jobs) if newest else reversed(jobs)
        return [entry(raw) for raw in islice(side, start, start + count)]

    async def by_score(self, place: Place, score: float) -> list[Entry]:
        members = self._server.places[place]
        found = members.slice(0, members.until(score))
        return [entry(raw, one) for one, raw in found if one == score][:100]

    async def search(self, place: str, texts: Sequence[str], cursor: str, count: int) -> SearchPage:
        start = int(cursor or 0)
        if place.startswith("queue:"):
            jobs = self._server.queues.get(place[6:], ())
            seen: list[tuple[float | None, bytes]] = [
                (None, raw) for raw in islice(jobs, start, start + count)
            ]
        else:
            seen = [*self._server.places[_place(place)].slice(start, start + count)]
        words = [text.encode() for text in texts]
        found = [entry(raw, score) for score, raw in seen if any(word in raw for word in words)]
        end = start + len(seen)
        return SearchPage(found, len(seen), str(end) if end < self._size(place) else None)

    async def queues(self, also: Sequence[str] = ()) -> list[QueueRow]:
        now, server = self._server.clock.now(), self._server
        return [
            queue_row(name, len(jobs), jobs[-1] if jobs else None, name in server.paused, now)
            for name in sorted({*also, *server.queues})
            for jobs in [server.queues.get(name, ())]
        ]

    async def counters(self, days: Sequence[str], queues: Sequence[str]) -> Counters:
        def counts(of: str) -> tuple[int, int]:
            return self._server.stats[f"processed{of}"], self._server.stats[f"failed{of}"]

        return Counters(
            total=counts(""),
            days={day: counts(f":{day}") for day in days},
            queues={queue: counts(f":{counted(queue)}") for queue in queues},
        )

    async def processes(self) -> list[Process]:
        found = sorted(self._server.processes.items())
        return [
            row
            for ident, heartbeat in found
            if (row := process_row(ident, self._fields(ident, heartbeat)))
        ]

    def _fields(self, ident: str, heartbeat: Heartbeat) -> dict[str, bytes | None]:
        """The fields of a process's hash; none a minute after its last heartbeat."""
        beat = self._server.leases.get(ident, float("-inf")) - heartbeat.lease_s
        if self._server.clock.now() - beat > _SHOWN_FOR_S:
            return {}
        fields = {
            "info": heartbeat.info,
            "busy": heartbeat.busy,
            "beat": beat,
            "rss": heartbeat.rss_kb,
            "quiet": "true" if heartbeat.quiet else "false",
            "concurrency": heartbeat.concurrency,
        }
        return {name: str(value).encode() for name, value in fields.items()}

    async def busy(self, idents: Sequence[str]) -> list[RunningJob]:
        heartbeats = [(ident, self._server.processes.get(ident)) for ident in idents]
        return [
            busy_row(ident, text.encode())
            for ident, heartbeat in heartbeats
            if heartbeat
            for text in heartbeat.work.values()
        ]

    async def claimed(self, texts: Sequence[str]) -> list[RunningJob]:
        words, server = [text.encode() for text in texts], self._server
        with server.gate:
            held = [(owner, [*jobs.values()]) for owner, jobs in server.privates.items()]
            held += [(owner, [*jobs]) for owner, jobs in server.inboxes.items()]
        return [
            RunningJob(ident, queue, readable(raw), raw, None)
            for (ident, queue), jobs in held
            for raw in jobs
            if any(word in raw for word in words)
        ]

    async def paused(self) -> list[str]:
        return sorted(self._server.paused)

    # -- change

    async def transfer(self, place: str, transfers: Sequence[Transfer]) -> list[bool]:
        with self._server.gate:
            return [self._transfer(place, transfer) for transfer in transfers]

    def _transfer(self, place: str, transfer: Transfer) -> bool:
        if not self._remove(place, transfer.member):
            return False
        if transfer.to == "queue":
            self._server.queues[transfer.queue].appendleft(transfer.payload)
            self._take_back(transfer.jid)
        elif transfer.to == "dead":
            self._bury(transfer.payload)
        run_effects(self._server, transfer.effects)
        self._server.wake([transfer.queue] if transfer.to == "queue" else [])
        return True

    def _remove(self, place: str, member: bytes) -> bool:
        if place.startswith("queue:"):
            jobs = self._server.queues.get(place[6:])
            if not jobs or member not in jobs:
                return False
            jobs.reverse()  # of equal jobs remove the oldest
            jobs.remove(member)
            jobs.reverse()
            return True
        members = self._server.places[_place(place)]
        there = members.score(member) is not None
        members.remove(member)
        return there

    def _take_back(self, jid: str) -> None:
        cancels = self._server.cancels
        if any(cancels.pop(mark + jid, None) is not None for mark in ("+", "-")):
            cancels["=" + jid] = self._later()

    def _later(self) -> float:
        """Now, or just after the last mark."""
        last = max(self._server.cancels.values(), default=0.0)
        return max(self._server.clock.now(), last + 1e-6)

    async def clear(self, place: str) -> int:
        with self._server.gate:
            count = self._size(place)
            if place.startswith("queue:"):
                self._server.queues.pop(place[6:], None)
            else:
                self._server.places[_place(place)].drop_first(count)
            return count

    async def clear_all(self) -> int:
        with self._server.gate:
            return self._server.clear()

    async def reset_counters(self) -> None:
        for name in ("processed", "failed"):
            self._server.stats.pop(name, None)

    async def prune(self) -> int:
        server = self._server
        with server.gate:
            gone = [
                ident
                for ident, heartbeat in server.processes.items()
                if not self._fields(ident, heartbeat) and not server.leased(ident)
            ]
            for ident in gone:
                del server.processes[ident]
        return len(gone)

    async def pause(self, queue: str) -> bool:
        changed = queue not in self._server.paused
        self._server.paused.add(queue)
        return changed

    async def resume(self, queue: str) -> bool:
        changed = queue in self._server.paused
        self._server.paused.discard(queue)
        return changed

    async def signal(self, ident: str, name: str) -> bool:
        if ident not in self._server.processes:
            return False
        self._server.signals[ident].append(name)
        return True

    async def cancel(self, jid: str, keep: bool) -> None:
        cancels, now = self._server.cancels, self._server.clock.now()
        later = self._later()
        for mark in ("+", "-", "="):
            cancels.pop(mark + jid, None)
        cancels[("+" if keep else "-") + jid] = later
        for mark in [mark for mark, at in cancels.items() if at <= now - CANCELS_KEPT_S]:
            del cancels[mark]


def _place(name: str) -> Place:
    return cast("Place", name)

"""A store's half for one queue of local jobs: it writes what must be written, and behind the jobs.

Theory of operation. A job that is accepted here is in one of three states. *Here*: only this
process knows it. *In doubt*: a frame that holds its backup has had no answer yet. *On record*: the
store holds its backup, as it holds claims.

A job that ends well while it is here is forgotten, and counted with the next frame: it costs no
command. For all else (a failure, a snooze, what a stop gives back) the backup is written first, and
the verdict is settled then, as for every claim.

While the store is away, jobs go on: their verdicts are *owed*, and carried out in their order when
it is back. `settle` then says that they were kept; a fence that shows up later is told by an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, final

from kiqpy._flow.pause import ExponentialBackoff
from kiqpy._flow.tasks import TaskSet
from kiqpy._intake.buffer import FRAME_BYTES, FRAME_JOBS
from kiqpy.clock import Clock
from kiqpy.errors import StoreError, StoreUnavailable
from kiqpy.job import Claim, LiveArguments
from kiqpy.outcome import Bury, Defer, Done, Lock, Retry, Verdict
from kiqpy.store import Frame, OutgoingJob, Pushed, Store
from kiqpy.store.backups import Backup, BackupFrame

_KEPT: Final = Pushed("queued")
OnKept = Callable[[Pushed], object]


class JournalSettings(NamedTuple):
    """`linger_s`: how long a backup may wait for others. `limit`: how many verdicts are owed."""

    linger_s: float = 0.01
    limit: int = 100_000


@final
class Journal:
    """The `Source` of one local queue. `accept` takes jobs in; all else is as for every queue."""

    def __init__(
        self,
        store: Store,
        queue: str,
        clock: Clock,
        settings: JournalSettings,
        on_fenced: Callable[[], object],
        on_error: Callable[[StoreError], object],
    ) -> None:
        self.queue = queue
        self.cancelled = store.cancelled  # see `Source`
        self._store = store
        self._clock = clock
        self._settings = settings
        self._on_fenced = on_fenced
        self._on_error = on_error
        self._here: dict[int, OutgoingJob] = {}  # not known to be on record
        self._due: dict[int, OnKept | None] = {}  # those of them that are to be written
        self._live: dict[int, LiveArguments] = {}
        self._doubt: BackupFrame | None = None
        self._doubted: frozenset[int] = frozenset()  # the deliveries in it
        self._sequence = 0
        self._done = self._failed = 0  # ended here, not counted yet
        self._owed: deque[Frame[Verdict]] = deque()
        self._numbered = 0
        self._seen_lapses = store.lapses
        self._writing = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._tasks = TaskSet()
        self._flushing = self._paying = self._lingers = self._closed = False

    # -- taking jobs in

    def accept(self, outgoing: OutgoingJob, *, write: bool, on_kept: OnKept | None = None) -> Claim:
        """A claim of this job. `write`: back it up soon, or at once if `on_kept` waits for that.

        `on_kept` is called with the result; the job may be no more then: `duplicate`.
        """
        delivery = self._store.reserve(self.queue, 1)
        self._here[delivery] = outgoing
        if outgoing.live is not None:
            self._live[delivery] = outgoing.live
        if write:
            self._due[delivery] = on_kept
            self._write_soon(at_once=on_kept is not None)
        return Claim(self.queue, delivery, outgoing.payload)

    def live(self, claim: Claim) -> LiveArguments | None:
        """The arguments of a job that was accepted here; asked once, when it begins."""
        return self._live.pop(claim.delivery, None)

    def is_only_here(self, delivery: int) -> bool:
        """Whether no other process can know the job: the store has never been told of it."""
        return delivery in self._here and delivery not in self._doubted

    def has(self, delivery: int) -> bool:
        """Whether the job is not known to be on record."""
        return delivery in self._here

    def forget(self, deliveries: Iterable[int]) -> None:
        """Drop the arguments of jobs that do not begin here any more."""
        for delivery in deliveries:
            self._live.pop(delivery, None)

    def size(self) -> int:
        """How many jobs are not known to be on record."""
        return len(self._here)

    def trusted(self) -> bool:
        """Whether all that was on record still is, as far as this process can know."""
        return self._store.trusted() and self._store.lapses == self._seen_lapses

    async def rescued(self) -> set[int] | None:
        """After a lapse of the lease: what the store still holds for us. None: there was none."""
        lapses = self._store.lapses
        if lapses == self._seen_lapses or not self._store.trusted():
            return None
        held = {claim.delivery for claim in await self._store.holding(self.queue)}
        self._seen_lapses = lapses
        return held

    # -- writing backups

    def _write_soon(self, *, at_once: bool) -> None:
        if self._flushing or self._closed:
            return
        if at_once:
            self._flushing = True
            self._tasks.start(self._write_on(), name="kiqpy:backup")
        elif not self._lingers:
            self._lingers = True
            self._clock.call_later(self._settings.linger_s, self._lingered)

    def _lingered(self) -> None:
        self._lingers = False
        self._write_soon(at_once=True)

    async def _write_on(self) -> None:
        try:
            while self._due or self._done:
                await self._insist(self._write)
        finally:
            self._flushing = False

    async def _insist(self, work: Callable[[], Awaitable[object]]) -> None:
        """Return when `work` has ended without a StoreError; each one is reported, then waited."""
        backoff = ExponentialBackoff(self._clock)
        while True:
            try:
                await work()
                return
            except StoreError as error:
                self._on_error(error)
                await backoff.pause()

    async def _write(self) -> None:
        """Send one frame; the one before first, if it is in doubt."""
        async with self._writing:
            if (frame := self._doubt or self._compose()) is None:
                return  # another call has written it meanwhile
            self._doubt = frame
            self._doubted = frozenset([backup.delivery for backup in frame.backups])
            results = await self._store.backups.keep(frame)
            self._doubt, self._doubted = None, frozenset()
            for backup, result in zip(frame.backups, results, strict=True):
                self._kept(backup.delivery, result)

    def _compose(self) -> BackupFrame | None:
        if not self._due and not self._done:
            return None
        backups: list[Backup] = []
        size = 0
        for delivery in self._due:
            if len(backups) >= FRAME_JOBS or size >= FRAME_BYTES:
                break
            job = self._here[delivery]
            size += len(job.payload)
            backups.append(Backup(delivery, job.jid, job.payload, job.lock))
        self._sequence += 1
        done, failed = self._done, self._failed
        self._done = self._failed = 0
        return BackupFrame(self.queue, self._sequence, tuple(backups), done, failed)

    def _kept(self, delivery: int, result: Pushed) -> None:
        del self._here[delivery]
        if result != _KEPT:
            self._live.pop(delivery, None)
        if (on_kept := self._due.pop(delivery)) is not None:
            on_kept(result)

    async def _write_all(self, deliveries: Iterable[int]) -> None:
        """Return when these are on record."""
        missing = [delivery for delivery in deliveries if delivery in self._here]
        for delivery in missing:
            self._due.setdefault(delivery, None)
        while any(delivery in self._here for delivery in missing):
            await self._write()

    async def flush(self) -> None:
        """Return when all that is to be written is, and nothing is owed any more."""
        while self._due or self._done or self._owed:
            await self._insist(self._catch_up)

    async def _catch_up(self) -> None:
        while self._due or self._done:
            await self._write()
        await self._pay()

    # -- settling

    def frame(self, queue: str, verdicts: Sequence[Verdict]) -> Frame[Verdict]:
        """See `Source.frame`."""
        self._numbered += 1
        return Frame(queue, self._numbered, tuple(verdicts))

    async def settle(self, frame: Frame[Verdict]) -> list[bool]:
        """See `Source.settle`. While the store is away, it says True and settles later."""
        if len(self._owed) >= self._settings.limit:
            raise StoreUnavailable(f"{len(self._owed):,} verdicts wait for the store")
        self.forget([verdict.delivery for verdict in frame.items])  # those that never began, too
        ended = [self._ends_here(verdict) for verdict in frame.items]
        if all(ended):
            return ended
        rest = [v for v, here in zip(frame.items, ended, strict=True) if not here]
        kept = iter(await self._settle(self._store.frame(self.queue, rest)))
        return [here or next(kept) for here in ended]

    def _ends_here(self, verdict: Verdict) -> bool:
        """Forget a job that has ended well and that only this process knows."""
        delivery = verdict.delivery
        if type(verdict) is not Done or verdict.effects or not self.is_only_here(delivery):
            return False
        del self._here[delivery]
        self._due.pop(delivery, None)
        self._done += 1
        self._failed += verdict.failed
        self._write_soon(at_once=False)
        return True

    async def _settle(self, owed: Frame[Verdict]) -> list[bool]:
        if not self._owed:
            try:
                return await self._carry_out(owed)
            except StoreError as error:
                self._on_error(error)
        self._owed.append(owed)
        if not self._paying:
            self._paying = True
            self._tasks.start(self._pay_on(), name="kiqpy:owed")
        return [True] * len(owed.items)

    async def _carry_out(self, owed: Frame[Verdict]) -> list[bool]:
        """The backups that are missing, then the verdicts."""
        async with self._settling:
            await self._write_all([verdict.delivery for verdict in owed.items])
            return await self._store.settle(owed)

    async def _pay_on(self) -> None:
        try:
            while self._owed:
                await self._insist(self._pay)
        finally:
            self._paying = False

    async def _pay(self) -> None:
        """Carry out what is owed, in its order."""
        while self._owed:
            owed = self._owed[0]
            kept = await self._carry_out(owed)
            if self._owed and self._owed[0] is owed:  # two may pay at a time
                self._owed.popleft()
                for _ in range(kept.count(False)):
                    self._on_fenced()

    # -- at the end

    async def holding(self, queue: str) -> list[Claim]:
        """See `Source.holding`; all jobs are on record then, those too that never had to be."""
        self._due.update({n: self._due.get(n) for n in self._here})
        await self._catch_up()
        return await self._store.holding(queue)

    def surrender(self) -> list[OutgoingJob]:
        """Give up what is not on record: the jobs, as they are to go on. Nothing is sent any more.

        What is in doubt is among them: to run twice is better than not at all.
        """
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        verdicts = {v.delivery: v for owed in self._owed for v in owed.items}
        found = [_going_on(job, verdicts.get(n)) for n, job in self._here.items()]
        for shelf in (self._here, self._due, self._live, self._owed):
            shelf.clear()
        return [job for job in found if job is not None]

    # -- as the store does

    async def refresh_cancelled(self) -> None:
        await self._store.refresh_cancelled()

    async def unlock(self, jid: str, lock: Lock) -> None:
        await self._store.unlock(jid, lock)

    async def wait(self, queue: str, timeout_s: float) -> bool:
        return await self._store.wait(queue, timeout_s)

    async def unwait(self, queue: str) -> None:
        await self._store.unwait(queue)

    async def fetch(self, queue: str, limit: int) -> list[Claim]:
        return await self._store.fetch(queue, limit)

    async def heads(self, queue: str, claims: Sequence[Claim]) -> list[Claim]:
        return await self._store.heads(queue, claims)

    def reserve(self, queue: str, count: int) -> int:
        return self._store.reserve(queue, count)


def _going_on(job: OutgoingJob, verdict: Verdict | None) -> OutgoingJob | None:
    """What is to be pushed of a job that has had this verdict, if any; None: nothing."""
    match verdict:
        case Done():
            return None
        case Retry(payload=payload, in_s=in_s) | Defer(payload=payload, in_s=in_s):
            return job._replace(payload=payload, in_s=in_s, live=None)
        case Bury(payload=payload):
            return job._replace(payload=payload, live=None)
        case _:
            return job._replace(live=None)

"""Inspect and change jobs, queues and processes: `jobs.admin`, on a server or a client-only app."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

from kiqpy._flow.thread import LoopThread, from_any_loop
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf
from kiqpy.admin._lanes import LaneAdmin
from kiqpy.admin._moves import (
    MAX_SEARCHED,
    Action,
    Jobs,
    Mover,
    Progress,
    is_poisoned,
    known_place,
    known_queue,
)
from kiqpy.admin._pages import last_days, offset
from kiqpy.admin._rows import BulkResult, Day, Found, JobRow, Page, QueueCounts, Stats, row
from kiqpy.admin._running import reported, runs_of
from kiqpy.admin._search import Field, Search, Searcher, token
from kiqpy.clock import Clock
from kiqpy.errors import ArgumentError, StoreRefused, suggest
from kiqpy.store.census import PLACES, Census, Process, QueueRow, RunningJob
from kiqpy.store.lanes import LanePage, LaneRow, Lanes

__all__ = [
    "Admin",
    "BulkResult",
    "Day",
    "Field",
    "Found",
    "JobRow",
    "LanePage",
    "LaneRow",
    "Page",
    "Process",
    "QueueCounts",
    "QueueRow",
    "RunningJob",
    "Search",
    "Stats",
]

_SIGNALS: Final = ("TSTP", "CONT", "TERM", "TTIN")


@final
@from_any_loop()
class Admin:
    """Every call is bounded and may be repeated; two operators at once move a job only once.

    A place is "retry", "scheduled", "dead" or "queue:NAME". Jobs are named by their jid or by a
    row that was shown; a row is acted upon only if it is still where it was seen, unchanged.
    A queue that another program has named in its own way is one like others.
    Everything raises StoreUnavailable when the store does not answer: do the same again. To
    cancel a call is safe; what was already done stays done.
    """

    def __init__(
        self,
        census: Census,
        clock: Clock,
        queues: Sequence[str] = (),
        effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
        home: LoopThread | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._home = home
        self._census = census
        self._clock = clock
        self._queues = tuple(queues)
        self._moves = Mover(census, clock, effects_of)
        if lanes is not None:
            self.lanes = LaneAdmin(lanes, census, self._moves, clock, home)

    # -- inspect

    async def queues(self) -> list[QueueRow]:
        """Every queue, by name: its size, its latency in seconds, whether it is paused."""
        return await self._census.queues(self._queues)

    async def size(self, place: str) -> int:
        """How many jobs are in a place."""
        at = await known_place(self._census, place)
        queue = at.removeprefix("queue:")
        sizes = await self._census.sizes([] if at in PLACES else [queue])
        return sizes[queue]

    async def stats(self, days: int = 30) -> Stats:
        """All counts: in total, of the last `days` days (today first, UTC), of each queue."""
        dates = last_days(self._clock.now(), days)
        queues = await self.queues()
        names = [queue.name for queue in queues]
        counters = await self._census.counters(dates, names)
        sizes = await self._census.sizes([])
        processes = await self.processes()
        processed, failed = counters.total
        return Stats(
            processed=processed,
            failed=failed,
            enqueued=sum(queue.size for queue in queues),
            scheduled=sizes["schedule"],
            retry=sizes["retry"],
            dead=sizes["dead"],
            processes=len(processes),
            busy=sum(process.busy for process in processes),
            days=tuple(Day(date, *counts) for date, counts in counters.days.items()),
            queues=tuple(QueueCounts(name, *counts) for name, counts in counters.queues.items()),
        )

    async def jobs(
        self, place: str, *, page: int = 1, per: int = 25, newest: bool | None = None
    ) -> Page:
        """One page of a place.

        `newest=False`: soonest due or next to run first. True: what came last, or is due last,
        first. By default the newest come first in "dead", and the soonest everywhere else.
        """
        at = await known_place(self._census, place)
        start = offset(page, per)
        last_first = at == "dead" if newest is None else newest
        if at in PLACES:
            entries = await self._census.page(at, start, per, last_first=last_first)
        else:
            queue = at.removeprefix("queue:")
            entries = await self._census.queue_page(queue, start, per, newest=last_first)
        return Page([row(at, entry) for entry in entries], page, per, await self.size(place))

    async def find(
        self,
        jid: str,
        place: str | None = None,
        *,
        score: float | None = None,
        most: int = MAX_SEARCHED,
    ) -> Found:
        """The job with this jid: in `place`, or wherever it is, running ones included.

        It reads one entry after the other, at most `most`, and then gives up and says so
        (`complete`). With the `score` of a set's entry (`JobRow.at`) it is found at once.
        """
        if not jid:
            raise ArgumentError("a jid is needed to find a job; it is empty")
        if most < 1:
            raise ArgumentError(f"most={most}: give 1 or more")
        if score is not None:
            return await Searcher(self._census).with_score(jid, place, score)
        places = (
            await self._moves.places()
            if place is None
            else [await known_place(self._census, place)]
        )
        found = await self._moves.find([jid], places, most)
        if not found.rows and place is None:
            running = await runs_of(self._census, jid)
            rows = [JobRow("running", one.job, one.raw, one.run_at) for one in running]
            return Found(rows, found.searched, found.complete or bool(rows))
        return found

    async def search(
        self,
        place: str,
        text: str,
        *,
        fields: Sequence[Field] = (),
        cursor: str = "",
        limit: int = 100,
        most: int = MAX_SEARCHED,
    ) -> Search:
        """Jobs of a place that hold `text`: anywhere, or in one of the named `fields`.

        Upper and lower case differ. It stops once `limit` were found (it may return a few more) or
        `most` entries were looked at; go on with the `cursor` that is returned. What moves
        meanwhile may be missed, or returned again by a later call.
        """
        if not text or limit < 1 or most < 1:
            raise ArgumentError("a search needs a text, and a limit and most of 1 or more")
        at = await known_place(self._census, place)
        searcher = Searcher(self._census)
        bounds = {"limit": limit, "most": most}
        return await searcher.search(at, text, fields, cursor=cursor, **bounds)

    @staticmethod
    def token(seen: JobRow) -> str:
        """A short text that names this entry as it is now, for a form or a URL; see `locate`."""
        return token(seen)

    async def locate(
        self, place: str, tokens: Iterable[str], *, most: int = MAX_SEARCHED
    ) -> list[JobRow]:
        """The rows with these tokens, without those that are no longer as they were.

        At once in a set; in a queue at most `most` entries are looked at.
        """
        at = await known_place(self._census, place)
        return await Searcher(self._census).locate(at, tokens, most)

    async def processes(self) -> list[Process]:
        """The live processes, Sidekiq's included."""
        return await self._census.processes()

    async def busy(self, queue: str | None = None, *, most: int = 10_000) -> list[RunningJob]:
        """The running jobs that processes reported at their last heartbeats; longest first.

        Of one queue, if it is named. A process reports 250 at most. What began since is missing
        here; `find` and `cancel` see it.
        """
        return await reported(self._census, queue, most)

    # -- change jobs

    async def retry(self, jobs: Jobs, place: str | None = None) -> BulkResult:
        """Put jobs of the retry or dead set into their queues now; uses none of their retries.

        A unique job takes its lock again; if another job holds it, both run.
        """
        return await self._moves.carry_out("retry", jobs, place)

    async def requeue(self, jobs: Jobs, place: str | None = None) -> BulkResult:
        """Put scheduled, failed or dead jobs into their queues now; their locks as by `retry`."""
        return await self._moves.carry_out("requeue", jobs, place)

    async def kill(self, jobs: Jobs, place: str | None = None) -> BulkResult:
        """Move jobs to the dead set; their locks are freed, but for `unique_until="expiry"`.

        In a long queue this takes the longer the newer the job is.
        """
        return await self._moves.carry_out("kill", jobs, place)

    async def delete(
        self, jobs: Jobs, place: str | None = None, *, unlock: bool = False
    ) -> BulkResult:
        """Delete jobs. Their unique locks stay until they expire, unless `unlock`."""
        act: Action = "delete and unlock" if unlock else "delete"
        return await self._moves.carry_out(act, jobs, place)

    async def retry_all(
        self, place: str, *, poisoned: bool = False, progress: Progress | None = None
    ) -> BulkResult:
        """`retry` all that are in a set now; `progress(done, total)` is called after each 100.

        `poisoned`: only those that are dead because their processes died.
        """
        only = is_poisoned if poisoned else None
        return await self._moves.carry_out_all("retry", place, progress, only)

    async def requeue_all(self, place: str, *, progress: Progress | None = None) -> BulkResult:
        """`requeue` all that are in a set now."""
        return await self._moves.carry_out_all("requeue", place, progress)

    async def kill_all(self, place: str, *, progress: Progress | None = None) -> BulkResult:
        """`kill` all that are in a place now."""
        return await self._moves.carry_out_all("kill", place, progress)

    async def delete_all(
        self, place: str, *, unlock: bool = False, progress: Progress | None = None
    ) -> BulkResult:
        """`delete` all that are in a place now. Without `unlock`, `clear` does it at once."""
        act: Action = "delete and unlock" if unlock else "delete"
        return await self._moves.carry_out_all(act, place, progress)

    async def clear(self, place: str) -> int:
        """Delete all jobs of a place in one step; return how many.

        A queue is no longer listed. Unique locks stay until they expire.
        """
        return await self._census.clear(await known_place(self._census, place))

    async def clear_all(self, *, force: bool = False) -> int:
        """Delete all keys of Sidekiq and kiqpy in this namespace; return how many.

        Raises StoreRefused while processes live, unless `force`: theirs is dropped as well, so
        that what they run counts for nothing.
        """
        alive = await self.processes()
        if alive and not force:
            raise StoreRefused(
                f"{len(alive)} processes live, {alive[0].ident} first: stop them, or force=True"
            )
        return await self._census.clear_all()

    async def cancel(self, jid: str, *, keep: bool = True, most: int = 100_000) -> str:
        """Cancel a job, also a running one. `keep`: it goes to the dead set, else it is deleted.

        Returns where it was: "scheduled", "retry", "queued", "running", or "marked": not found
        among the first `most` jobs, but stopped as soon as a process claims it.
        """
        if not jid:
            raise ArgumentError("a jid is needed to cancel a job; it is empty")
        await self._census.cancel(jid, keep)  # first, so that it can't slip through
        places = [place for place in await self._moves.places() if place != "dead"]
        found = (await self._moves.find([jid], places, most)).row
        act: Action = "cancel" if keep else "cancel and delete"
        if found and (await self._moves.carry_out(act, [found])).done:
            return "queued" if found.place.startswith("queue:") else found.place
        return "running" if await runs_of(self._census, jid) else "marked"

    # -- change queues and processes

    async def pause(self, queue: str) -> bool:
        """Let no process claim jobs of this queue. False: it was paused already.

        ArgumentError for a name that a queue of kiqpy's can't have, unless there is such a queue.
        """
        return await self._census.pause(await known_queue(self._census, queue))

    async def resume(self, queue: str) -> bool:
        """End a pause. False: it was not paused."""
        return await self._census.resume(queue)

    async def paused(self) -> list[str]:
        """The names of the paused queues."""
        return await self._census.paused()

    async def signal(self, ident: str, name: str) -> bool:
        """Send TSTP (quiet), CONT (end of quiet), TERM (stop) or TTIN (dump of tasks and stacks).

        The process heeds it at its next heartbeat; one of Sidekiq's ignores CONT. False: there is
        no such process.
        """
        if name not in _SIGNALS:
            hint = suggest(name, _SIGNALS) or "give one of them"
            raise ArgumentError(f"signal {name!r} is none of {', '.join(_SIGNALS)}; {hint}")
        return await self._census.signal(ident, name)

    async def quiet_process(self, ident: str, on: bool = True) -> bool:
        """Let a process claim no more jobs, or with `on=False` claim them again.

        Sidekiq's own processes can't be made to claim again. False: there is no such process.
        """
        return await self.signal(ident, "TSTP" if on else "CONT")

    async def stop_process(self, ident: str) -> bool:
        """Stop a process; its jobs get their grace. False: there is no such process."""
        return await self.signal(ident, "TERM")

    async def prune(self) -> int:
        """Remove processes without a heartbeat for a minute from the list; return how many."""
        return await self._census.prune()

    async def reset_stats(self) -> None:
        """Set the totals of processed and failed jobs to 0; days and queues keep theirs."""
        await self._census.reset_counters()

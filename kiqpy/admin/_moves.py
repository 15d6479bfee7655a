"""Finds jobs at rest, decides how each is moved, and moves them page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Literal, final

from kiqpy._declare.checks import queue_name
from kiqpy._rules.backoff import Rand
from kiqpy._rules.dead import dead_fields
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf, choose_effects
from kiqpy._rules.portable import buried, handed_on, unsealed
from kiqpy.admin._rows import BulkResult, Found, JobRow, row, where
from kiqpy.clock import Clock
from kiqpy.errors import ArgumentError, ConfigError
from kiqpy.job import Job
from kiqpy.outcome import Cancelled, Fate
from kiqpy.store.census import PLACES, Census, Entry, Transfer

Action = Literal[
    "retry", "requeue", "kill", "delete", "delete and unlock", "cancel", "cancel and delete"
]
Jobs = JobRow | str | Iterable["JobRow | str"]  # rows that were shown, or jids
Progress = Callable[[int, int], object]  # how many were looked at so far, and of how many
MAX_SEARCHED: Final = 1_000_000  # entries: about two seconds, a thousand at a time
_MAX_LOOKED_PER_CALL: Final = 1000  # looked at in one call to the store
_MAX_MOVED_PER_CALL: Final = 100
_CRASHES: Final = (
    "recovered",
    "recovered_at",
)  # how many processes died with a job, and since when


async def known_place(census: Census, place: str) -> str:
    """The store's name of a place; of a queue only if kiqpy allows its name, or if it exists."""
    at = where(place)
    if at not in PLACES:
        await known_queue(census, at.removeprefix("queue:"))
    return at


async def known_queue(census: Census, name: str) -> str:
    """`name`; ArgumentError if no queue of kiqpy's can have it and no other program's has it."""
    try:
        return queue_name(name)
    except ConfigError as error:
        known = name in {row.name for row in await census.queues()}
        if not known:
            raise ArgumentError(str(error)) from None
    return name


def transfer(
    found: JobRow,
    act: Action,
    now: float,
    rand: Rand,
    effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
) -> Transfer | None:
    """How the store must move a job; None if bytes that are no job can't go there. Pure.

    What moves can be read by Ruby then, as after a failure. What Ruby's parser refuses is moved as
    it is.
    """
    job, raw = found.job, found.raw
    if job is None:
        if act in ("retry", "requeue"):
            return None
        kept = buried(raw, found.queue or "default", now, rand)
        return Transfer(raw, "dead" if act in ("kill", "cancel") else "away", kept)
    if act in ("retry", "requeue"):
        if (sealed := unsealed(job)) is not None:
            return Transfer(raw, "queue", sealed, job.queue, job.jid)
        fate = Fate("queue", "operator")
        again = act == "retry"
        changes = {"enqueued_at": now} | (_one_back(job) if again else {})
        payload = handed_on(raw, job, changes, rand, drop=_CRASHES if again else ())
        moved = Transfer(raw, "queue", payload or raw, job.queue, job.jid)
    elif act in ("kill", "cancel"):
        fate = Fate("dead", "operator")
        payload = handed_on(raw, job, _why(found, job, act, now), rand)
        moved = Transfer(raw, "dead", payload or raw)
    else:
        outcome = Cancelled(keep=False) if act == "cancel and delete" else None
        fate = Fate("gone", "operator", outcome, unlock=act == "delete and unlock")
        moved = Transfer(raw, "away")
    return moved._replace(effects=choose_effects(job, fate, now, effects_of))


def is_poisoned(found: JobRow) -> bool:
    """Whether a job is dead because its processes died; most of them ran beside the culprit."""
    return found.error_class == "kiqpy.Poison"


def _one_back(job: Job) -> dict[str, Any]:
    """As Sidekiq: a retry that somebody asked for is not one of those the job has."""
    count = job.payload.get("retry_count")
    return {"retry_count": count - 1} if type(count) is int else {}


def _why(found: JobRow, job: Job, act: Action, now: float) -> dict[str, Any]:
    """Why the job is in the dead set; a killed job that has failed before keeps its error."""
    if act == "kill" and found.error_class:
        return {}
    error, text = ("Cancelled", "cancelled") if act == "cancel" else ("Killed", "killed by hand")
    fields = dead_fields(job, error, text, now)
    if found.place.startswith("queue:"):
        fields["queue"] = found.queue  # it may have named no queue, or another
    return fields


def check(act: Action, place: str) -> None:
    """Raise ArgumentError if the action makes no sense in the place where a job is."""
    if place == "running":
        raise ArgumentError(f"a job that runs can't be {_DONE[act]}: cancel(jid) stops it")
    if act in ("retry", "requeue") and place.startswith("queue:"):
        raise ArgumentError(f"jobs of {place!r} are in their queue already: nothing to {act}")
    if act == "kill" and place == "dead":
        raise ArgumentError("jobs of 'dead' are dead already: delete or retry them")


_DONE: Final = {
    "retry": "retried",
    "requeue": "requeued",
    "kill": "killed",
    "delete": "deleted",
    "delete and unlock": "deleted",
    "cancel": "moved",
    "cancel and delete": "deleted",
}


@final
class Mover:
    """Finds jobs, and moves them."""

    def __init__(
        self, census: Census, clock: Clock, effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS
    ) -> None:
        self._census = census
        self._clock = clock
        self._effects_of = effects_of

    async def find(self, jids: Sequence[str], places: Iterable[str], most: int) -> Found:
        """The jobs with these jids, place by place, until each was found once or `most` seen."""
        wanted, rows, searched = set(jids), list[JobRow](), 0
        for place in places:
            cursor: str | None = ""
            while cursor is not None and wanted:
                count = min(
                    _MAX_LOOKED_PER_CALL,
                    max(20, 10 * _MAX_LOOKED_PER_CALL // len(wanted)),
                    most - searched,
                )
                if count <= 0:
                    return Found(rows, searched, complete=False)
                page = await self._census.search(place, sorted(wanted), cursor, count)
                cursor, searched = page.cursor, searched + page.looked
                for entry in page.entries:
                    if entry.job is not None and entry.job.jid in wanted:
                        wanted.discard(entry.job.jid)
                        rows.append(row(place, entry))
        return Found(rows, searched, complete=True)

    async def places(self) -> list[str]:
        """Every place where a job can rest; places with few jobs first."""
        names = [queue.name for queue in await self._census.queues()]
        return ["retry", "schedule", "dead", *(f"queue:{name}" for name in names)]

    async def carry_out(self, act: Action, jobs: Jobs, place: str | None = None) -> BulkResult:
        """Act upon rows that were shown, and upon the jobs with these jids, wherever they are."""
        given = [jobs] if isinstance(jobs, JobRow | str) else list(jobs)
        jids = list(dict.fromkeys(job for job in given if isinstance(job, str)))
        if not all(jids):
            raise ArgumentError("a jid is empty")
        result = await self._act_on_rows(act, [job for job in given if isinstance(job, JobRow)])
        if not jids:
            return result
        found = await self.find(jids, await self._places_for(act, place), MAX_SEARCHED)
        known = {each.jid for each in found.rows}
        missing = tuple(jid for jid in jids if jid not in known)
        result += await self._act_on_rows(act, found.rows)
        return result + BulkResult(missing=missing, complete=found.complete or not missing)

    async def _places_for(self, act: Action, place: str | None) -> list[str]:
        if place is not None:
            return [await known_place(self._census, place)]
        places = await self.places()
        if act in ("retry", "requeue"):
            return [at for at in places if at in PLACES]
        return [at for at in places if act != "kill" or at != "dead"]

    async def _act_on_rows(self, act: Action, rows: Iterable[JobRow]) -> BulkResult:
        result = BulkResult()
        for place, group in groupby(sorted(rows, key=_place), key=_place):
            check(act, place)
            result += await self._act(act, where(place), list(group))
        return result

    async def _act(self, act: Action, place: str, rows: Sequence[JobRow]) -> BulkResult:
        now = self._clock.now()
        moves = [transfer(found, act, now, self._clock.random, self._effects_of) for found in rows]
        wanted = [move for move in moves if move is not None]
        done = sum(await self._census.transfer(place, wanted))
        return BulkResult(done, len(wanted) - done, len(rows) - len(wanted))

    async def carry_out_all(
        self,
        act: Action,
        place: str,
        progress: Progress | None,
        only: Callable[[JobRow], bool] | None = None,
    ) -> BulkResult:
        """Act upon all that are in a place at the start, or those that `only` takes, in pages.

        What stays (unreadable, or not taken) is stepped over. What comes meanwhile is left alone,
        or else a job that fails at once would be retried for ever.
        """
        check(act, place)
        at = await known_place(self._census, place)
        total = left = await self._size(at)
        result, others = BulkResult(), 0
        while left > 0 and (
            entries := await self._page(
                at, result.unreadable + others, min(_MAX_MOVED_PER_CALL, left)
            )
        ):
            rows = [row(at, entry) for entry in entries]
            taken = rows if only is None else [found for found in rows if only(found)]
            result += await self._act(act, at, taken)
            others += len(rows) - len(taken)
            left -= len(entries)
            if progress is not None:
                progress(total - left, total)
        return result

    async def _size(self, place: str) -> int:
        queue = place.removeprefix("queue:")
        sizes = await self._census.sizes([queue] if place.startswith("queue:") else [])
        return sizes[queue]

    async def _page(self, place: str, start: int, count: int) -> list[Entry]:
        if place in PLACES:
            return await self._census.page(place, start, count)
        return await self._census.queue_page(place.removeprefix("queue:"), start, count)


def _place(found: JobRow) -> str:
    return found.place

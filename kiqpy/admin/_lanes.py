"""Lanes of blocking queues, for operators: `jobs.admin.lanes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from kiqpy._declare.checks import lane_name
from kiqpy._flow.thread import LoopThread, from_any_loop
from kiqpy._rules.lanes import EnterLane, LaneOf, scheduled_at
from kiqpy.admin._moves import MAX_SEARCHED, Mover, transfer
from kiqpy.admin._rows import BulkResult, JobRow, row
from kiqpy.admin._running import runs_of
from kiqpy.clock import Clock
from kiqpy.errors import ArgumentError
from kiqpy.job import amend_job
from kiqpy.store.census import Census, Transfer
from kiqpy.store.lanes import LanePage, LaneRow, Lanes, lane_place

_ROWS_PER_PAGE: Final = 100


@final
@from_any_loop()
class LaneAdmin:
    """Every call is bounded, or goes page by page, and may be repeated. See `Admin`."""

    def __init__(
        self, lanes: Lanes, census: Census, moves: Mover, clock: Clock, home: LoopThread | None
    ) -> None:
        self._home = home
        self._lanes = lanes
        self._census = census
        self._moves = moves
        self._clock = clock

    async def __call__(self, queue: str, cursor: str = "", count: int = _ROWS_PER_PAGE) -> LanePage:
        """About `count` lanes of a queue, in no order: pass `cursor` on until it is None."""
        return await self._lanes.page(queue, cursor, count)

    async def inspect(self, queue: str, lane: str) -> LaneRow:
        """One lane: its head, its state and since when, how many jobs wait."""
        return await self._lanes.row(queue, lane)

    async def waiting(
        self, queue: str, lane: str, start: int = 0, count: int = _ROWS_PER_PAGE
    ) -> list[JobRow]:
        """The jobs behind the head, the next one first."""
        place = lane_place(queue, lane)
        return [row(place, each) for each in await self._census.page(place, start, count)]

    async def pause(self, queue: str, lane: str) -> bool:
        """Let no further job of the lane start; what runs may end. False: it is stopped already."""
        return await self._lanes.pause(queue, lane_name("lane", lane))

    async def resume(self, queue: str, lane: str) -> bool:
        """Let a paused or halted lane go on with its next job. False: it was neither."""
        return await self._lanes.resume(queue, lane)

    async def retry(self, queue: str, lane: str) -> BulkResult:
        """Run the head of a blocked or halted lane now."""
        head = (await self._lanes.row(queue, lane)).head
        return await self._moves.carry_out("retry", [head] if head else [])

    async def skip(self, queue: str, lane: str) -> bool:
        """Let the next job of the lane run; the head goes to the dead set, wherever it waits.

        False: the lane has no head. ArgumentError if the head runs: `cancel` ends it.
        """
        found = await self._lanes.row(queue, lane)
        if not found.head:
            return False
        if found.state == "halted":
            return await self._lanes.resume(queue, lane)
        if await runs_of(self._census, found.head):
            raise ArgumentError(f"job {found.head} runs: cancel({found.head!r}) ends it")
        places = ["retry", "schedule", f"queue:{queue}"]
        rows = (await self._moves.find([found.head], places, MAX_SEARCHED)).rows
        if rows and (await self._moves.carry_out("kill", rows)).done:
            return True
        return await self._lanes.pass_over(queue, lane, found.head)  # it is nowhere any more

    async def move(self, queue: str, lane: str, jobs: Sequence[JobRow], to: str) -> int:
        """Let waiting jobs of a lane wait in another one; how many were still there."""
        lane_name("to", to)
        moves = [move for each in jobs if (move := _moved(each, queue, to)) is not None]
        return sum(await self._census.transfer(lane_place(queue, lane), moves))

    async def delete(self, queue: str, lane: str) -> int:
        """Delete the jobs that wait behind the head, and free their locks; how many."""
        place, deleted = lane_place(queue, lane), 0
        while rows := await self.waiting(queue, lane):
            now, rand = self._clock.now(), self._clock.random
            found = [transfer(each, "delete and unlock", now, rand) for each in rows]
            done = sum(await self._census.transfer(place, [each for each in found if each]))
            deleted += done
            if not done:
                break
        return deleted


def _moved(found: JobRow, queue: str, to: str) -> Transfer | None:
    job = found.job
    if job is None:
        return None
    payload = amend_job(job, found.raw, {"lane": to})
    effect = EnterLane(LaneOf(queue, to, job.jid), scheduled_at(job), new=True)
    return Transfer(found.raw, "queue", payload, queue, "", (effect,))

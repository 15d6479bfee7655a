"""Lanes in memory: what the scripts of `lua/shared/lanes.lua` do, and the part for operators."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import final

from kiqpy._rules.lanes import BlockLane, EnterLane, HaltLane, LaneOf, NextInLane
from kiqpy.store._backend import LaneClaim
from kiqpy.store.census import readable
from kiqpy.store.lanes import LanePage, LaneRow, lane_place, lane_row
from kiqpy.store.memory.server import MemoryServer, Owner

_STEP_S = 1e-6


def _stopped(server: MemoryServer, lane: LaneOf) -> str | None:
    """ "paused" or "halted", if no job of the lane may start."""
    state = server.lanes.get(lane[:2], "").partition(" ")[0]
    return state if state in ("paused", "halted") else None


def _mark(server: MemoryServer, lane: LaneOf, state: str) -> None:
    server.lanes[lane[:2]] = f"{state} {int(server.clock.now())}"


def _is_head(server: MemoryServer, lane: LaneOf, *, new: bool = False) -> bool:
    """Whether the job may run: it is the head, or becomes it, because the lane is idle."""
    if _stopped(server, lane):
        return False
    head = server.heads.get(lane[:2])
    if not head:
        server.heads[lane[:2]] = lane.jid
        return True
    return head == lane.jid and not new


def _wait(
    server: MemoryServer, lane: LaneOf, payload: bytes, at: float | None, *, new: bool = False
) -> None:
    """Let a job wait at its scheduled time, or behind all; a head that may not run now, first."""
    head, members = server.heads.get(lane[:2]), server.places[lane_place(*lane[:2])]
    first = head == lane.jid and not new
    last = members.slice(len(members) - 1, len(members))
    score = max(server.clock.now(), last[0][0] + _STEP_S if last else 0.0) if at is None else at
    if first:
        score = 0.0
    while members.holds(score):
        score += _STEP_S
    members.add(payload, score)
    if first or head is None:
        server.heads[lane[:2]] = ""


def _start_next(server: MemoryServer, lane: LaneOf) -> None:
    """Let the next job of the lane run; forget the lane if there is none."""
    members = server.places[lane_place(*lane[:2])]
    first = members.slice(0, 1)
    if _stopped(server, lane):
        server.heads[lane[:2]] = ""
        return
    server.lanes.pop(lane[:2], None)
    if not first:
        server.forget_lane(lane[:2], lane_place(*lane[:2]))
        return
    payload = first[0][1]
    members.remove(payload)
    server.queues[lane.queue].appendleft(payload)
    job = readable(payload)
    server.heads[lane[:2]] = job.jid if job else ""
    server.wake([lane.queue])


# -- effects


def enter_lane(server: MemoryServer, effect: EnterLane) -> None:
    lane, new = effect.lane, effect.new
    if _stopped(server, lane) == "halted" and server.heads.get(lane[:2]) == lane.jid and not new:
        del server.lanes[lane[:2]]
    if not _is_head(server, lane, new=new):
        _wait(server, lane, server.queues[lane.queue].popleft(), effect.at, new=new)


def next_in_lane(server: MemoryServer, effect: NextInLane) -> None:
    if server.heads.get(effect.lane[:2]) == effect.lane.jid:
        _start_next(server, effect.lane)


def halt_lane(server: MemoryServer, effect: HaltLane) -> None:
    if server.heads.get(effect.lane[:2]) == effect.lane.jid:
        _mark(server, effect.lane, "halted")


def block_lane(server: MemoryServer, effect: BlockLane) -> None:
    lane = effect.lane
    if server.heads.get(lane[:2]) == lane.jid and lane[:2] not in server.lanes:
        _mark(server, lane, "blocked")


def keep_heads(server: MemoryServer, owner: Owner, claims: Sequence[LaneClaim]) -> list[bool]:
    """Whether each claimed job may run; the others wait in their lanes, and are not held."""
    held = server.privates[owner]
    return [claim.delivery in held and _keep(server, owner[1], held, claim) for claim in claims]


def _keep(server: MemoryServer, queue: str, held: dict[int, bytes], claim: LaneClaim) -> bool:
    lane = LaneOf(queue, claim.lane, claim.jid)
    if _is_head(server, lane):
        return True
    _wait(server, lane, held.pop(claim.delivery), claim.at)
    return False


# -- operating


@final
class MemoryLanes:
    """See `kiqpy.store.lanes`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def page(self, queue: str, cursor: str, count: int) -> LanePage:
        start, both = int(cursor or 0), {**self._server.heads, **self._server.lanes}
        names = [lane for of, lane in both if of == queue]
        found = [self._row(queue, name) for name in islice(names, start, start + count)]
        end = start + len(found)
        return LanePage(found, str(end) if end < len(names) else None)

    async def row(self, queue: str, lane: str) -> LaneRow:
        return self._row(queue, lane)

    def _row(self, queue: str, lane: str) -> LaneRow:
        members = self._server.places.get(lane_place(queue, lane))
        first = members.slice(0, 1) if members else []
        head, state = self._server.heads.get((queue, lane)), self._server.lanes.get((queue, lane))
        at = first[0][0] if first else None
        return lane_row(queue, lane, head, state, len(members or ()), at)

    async def pause(self, queue: str, lane: str) -> bool:
        with self._server.gate:
            if _stopped(self._server, LaneOf(queue, lane, "")):
                return False
            _mark(self._server, LaneOf(queue, lane, ""), "paused")
            return True

    async def resume(self, queue: str, lane: str) -> bool:
        server, of = self._server, LaneOf(queue, lane, "")
        with server.gate:
            state = _stopped(server, of)
            if state is None:
                return False
            del server.lanes[queue, lane]
            if state == "halted" or not server.heads.get((queue, lane)):
                _start_next(server, of)
            return True

    async def pass_over(self, queue: str, lane: str, jid: str) -> bool:
        server, of = self._server, LaneOf(queue, lane, jid)
        with server.gate:
            if not jid or server.heads.get((queue, lane)) != jid:
                return False
            if _stopped(server, of) == "halted":
                del server.lanes[queue, lane]
            _start_next(server, of)
            return True

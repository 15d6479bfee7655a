"""Lanes on both stores: of each lane one job at most is in the queue or claimed, in order.

Each test drives processes by hand: what they fetch, keep (`heads`) and settle.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import Any

import pytest

from kiqpy._rules.decide import POISON_STARTS, Rules, decide
from kiqpy.admin import Admin
from kiqpy.errors import StoreUnavailable
from kiqpy.job import Claim, decode
from kiqpy.outcome import RELEASED, SUCCESS, Aborted, Cancelled, Failure, Outcome, Snoozed, Success
from kiqpy.store import OutgoingJob
from kiqpy.store._session import Session
from kiqpy.store.lanes import lane_place
from tests.faults import Faults, How
from tests.store.contract import PLACES, RedisWorld, World, jids, outgoing, payload

pytestmark = pytest.mark.anyio

FAILED = Failure(ValueError("no"))
FATAL = Failure(ValueError("no"), final=True)


def job(name: str, lane: str = "a", **fields: Any) -> OutgoingJob:
    times = {key: fields.pop(key) for key in ("in_s", "at_s", "lock") if key in fields}
    return outgoing(name, **times, **fields, lane=lane)._replace(lane=lane)


async def claim(session: Session, limit: int = 10) -> list[Claim]:
    return await session.heads("q", await session.fetch("q", limit))


async def settle(session: Session, *claims: Claim, outcome: Outcome = SUCCESS) -> list[bool]:
    def verdict(claim: Claim) -> Any:
        return decide(claim, decode(claim.raw), outcome, Rules(), 1e9, lambda: 0.5)

    return await session.settle(session.frame("q", [*map(verdict, claims)]))


async def run_all(session: Session) -> list[str]:
    """Claim and succeed until nothing is left; the jids in order."""
    ran: list[str] = []
    while claims := await claim(session):
        assert len({decode(c.raw).payload["lane"] for c in claims}) == len(claims), "an overlap"
        ran += jids(claims)
        await settle(session, *claims)
    return ran


def waiting(world: World, lane: str = "a") -> list[str]:
    found = world.members(lane_place("q", lane))
    return jids(sorted(found, key=lambda member: found[member]))


async def state(session: Session, lane: str = "a") -> str:
    return (await session.lanes.row("q", lane)).state


class TestOrder:
    async def test_only_the_head_is_in_the_queue(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"), job("b1", "b"), job("a3"))
        assert jids(world.queue("q")) == ["a1", "b1"]
        assert waiting(world) == ["a2", "a3"]
        assert await run_all(session) == ["a1", "b1", "a2", "a3"]

    async def test_a_long_frame_keeps_its_order(self, world: World) -> None:
        session = await world.process()
        names = [f"j{n:04}" for n in range(1500)]
        await world.push(*map(job, names[:700]))
        await world.push(*map(job, names[700:]))
        assert await run_all(session) == names

    async def test_an_empty_lane_is_forgotten(self, world: World) -> None:
        session = await world.process()
        await world.push(*(job(f"{lane}{n}", lane) for lane in "abc" for n in range(3)))
        await run_all(session)
        assert (await session.lanes.page("q", "", 100)).lanes == []
        assert await state(session) == "idle"
        if isinstance(world, RedisWorld):
            assert not [key for key in world.cli("KEYS", "*") if "lane" in key or "heads" in key]

    async def test_by_scheduled_time_then_by_arrival(self, world: World) -> None:
        session = await world.process()
        await world.push(job("first"))
        now = world.now()
        await world.push(*(job(f"s{n}", lane_at=now - n, at_s=now - n) for n in (1, 3, 2)))
        await world.push(job("late"))
        while (await session.promote(100)).moved:
            pass
        assert await run_all(session) == ["first", "s3", "s2", "s1", "late"]

    async def test_a_later_scheduled_job_blocks_none_before_it(self, world: World) -> None:
        session = await world.process()
        await world.push(job("later", in_s=3600.0), job("now"))
        assert await run_all(session) == ["now"]
        assert jids(world.members("schedule")) == ["later"]

    async def test_lanes_take_turns(self, world: World) -> None:
        session = await world.process()
        await world.push(*(job(f"a{n}") for n in range(1000)), job("b1", "b"))
        assert jids(await claim(session)) == ["a0", "b1"]

    async def test_lanes_of_two_queues_are_two(self, world: World) -> None:
        session = await world.process()
        other = outgoing("x", "other", lane="a")._replace(lane="a")
        await world.push(job("a1"), other, job("a2"))
        assert jids(world.queue("q")) == ["a1"]
        assert jids(world.queue("other")) == ["x"]
        assert jids(await claim(session)) == ["a1"]


class TestSettling:
    @pytest.mark.parametrize(
        ("outcome", "place"),
        [
            (Success(), None),
            (Aborted("expired"), None),
            (Cancelled(keep=True), "dead"),
            (Cancelled(keep=False), None),
            (FATAL, "dead"),
        ],
    )
    async def test_an_end_lets_the_next_run(
        self, world: World, outcome: Outcome, place: Any
    ) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        await settle(session, *await claim(session), outcome=outcome)
        assert jids(world.queue("q")) == ["a2"]
        assert jids(world.members(place)) == ["a1"] if place else True

    async def test_a_retry_blocks_its_lane_only(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"), job("b1", "b"), job("b2", "b"))
        a1, b1 = await claim(session)
        await settle(session, a1, outcome=FAILED)
        await settle(session, b1)
        assert await run_all(session) == ["b2"]
        assert await state(session) == "blocked"
        admin = Admin(session.census, world.clock, ("q",))
        await admin.retry("a1", "retry")
        assert await run_all(session) == ["a1", "a2"]

    async def test_a_snooze_blocks_its_lane(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        await settle(session, *await claim(session), outcome=Snoozed(0.05))
        assert await claim(session) == []
        await world.let_pass(0.1)
        await world.eventually(lambda: session.promote(10))
        assert await run_all(session) == ["a1", "a2"]

    async def test_what_is_released_stays_the_head(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        await settle(session, *await claim(session), outcome=RELEASED)
        assert await run_all(session) == ["a1", "a2"]

    @pytest.mark.parametrize("how", ["before", "after", "late"])
    async def test_a_repeated_frame_starts_one_job(self, world: World, how: How) -> None:
        faults = Faults()
        session = await world.process(faults=faults)
        await world.push(job("a1"), job("a2"), job("a3"))
        [head] = await claim(session)
        frame = session.frame(
            "q", [decide(head, decode(head.raw), Success(), Rules(), 1e9, lambda: 0.5)]
        )
        faults.fail("settle", how)
        with pytest.raises(StoreUnavailable):
            await session.settle(frame)
        assert await session.settle(frame) == [True]
        await faults.release()
        assert jids(world.queue("q")) == ["a2"]
        assert waiting(world) == ["a3"]

    async def test_exhausted_with_halt(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1", kiq={"halt": True}), job("a2"), job("b1", "b"))
        a1, b1 = await claim(session)
        await settle(session, a1, outcome=FATAL)
        await settle(session, b1)
        assert await run_all(session) == []
        assert await state(session) == "halted"
        await world.push(job("a3"))
        assert await run_all(session) == []
        assert await session.lanes.resume("q", "a")
        assert await run_all(session) == ["a2", "a3"]

    async def test_the_head_of_a_halted_lane_is_tried_again(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1", kiq={"halt": True}), job("a2"))
        await settle(session, *await claim(session), outcome=FATAL)
        await Admin(session.census, world.clock, ("q",)).retry("a1", "dead")
        assert await run_all(session) == ["a1", "a2"]
        assert await state(session) == "idle"


class TestOverlap:
    """Whatever happens: no two jobs of one lane are claimed at a time."""

    async def test_a_dead_process(self, world: World) -> None:
        victim, other = await world.process(), await world.process()
        await world.push(job("a1"), job("a2"))
        [late] = await claim(victim)
        await world.die(victim)
        await world.rescued(other)
        [again] = await claim(other)
        assert jids([again]) == ["a1"]
        assert await settle(victim, late) == [False]
        assert await claim(other) == [], "the stale holder's settle has started the next"
        await settle(other, again)
        assert await run_all(other) == ["a2"]

    async def test_poison(self, world: World) -> None:
        victim, other = await world.process(), await world.process()
        died = {"recovered": POISON_STARTS, "recovered_at": world.now()}
        await world.push(job("a1", **died), job("a2"))
        await claim(victim)
        await world.die(victim)
        await world.rescued(other)
        assert jids(world.members("dead")) == ["a1"]
        assert await run_all(other) == ["a2"]

    async def test_run_apart(self, world: World) -> None:
        """Two heads go back to the queue, one of them through the schedule: still heads."""
        victim, other = await world.process(), await world.process()
        died = {"recovered": 1, "recovered_at": world.now()}
        await world.push(*(job(f"{lane}{n}", lane, **died) for n in (1, 2) for lane in "ab"))
        await claim(victim)
        await world.die(victim)
        await world.rescued(other)
        assert len(world.members("schedule")) == 1
        ran = await run_all(other)
        await world.let_pass(1.1)
        await world.eventually(lambda: other.promote(10))
        ran += await run_all(other)
        assert [name for name in ran if "a" in name] == ["a1", "a2"]
        assert [name for name in ran if "b" in name] == ["b1", "b2"]

    @pytest.mark.parametrize("where", ["dead", "schedule"])
    async def test_what_an_operator_requeues_waits(self, world: World, where: str) -> None:
        session = await world.process()
        if where == "dead":
            await world.push(job("x"))
            await settle(session, *await claim(session), outcome=FATAL)
        else:
            await world.push(job("x", in_s=3600.0))
        await world.push(job("a1"), job("a2"))
        [head] = await claim(session)
        await Admin(session.census, world.clock, ("q",)).retry("x")
        assert await claim(session) == []
        await settle(session, head)
        assert await run_all(session) == ["a2", "x"]

    async def test_a_job_with_the_jid_of_the_head(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"))
        [head] = await claim(session)
        await world.push(job("a1", n=2))
        assert await claim(session) == []
        await settle(session, head)
        assert await run_all(session) == ["a1"]

    @pytest.mark.parametrize("how", ["before", "after", "late"])
    async def test_a_lost_fetch(self, world: World, how: How) -> None:
        faults = Faults()
        session, other = await world.process(faults=faults), await world.process()
        await world.push(job("a1"), job("a2"))
        faults.fail("fetch", how)
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 10)
        found = await claim(session) or await claim(other)
        assert jids(found) == ["a1"]
        await faults.release()
        assert await claim(other) == await claim(session) == []

    @pytest.mark.parametrize("how", ["before", "after", "late"])
    async def test_a_lost_look_at_who_is_head(self, world: World, how: How) -> None:
        faults = Faults()
        session = await world.process(faults=faults)
        await world.push(job("a1"), job("a2"))
        intrude(world, "x")
        claims = await session.fetch("q", 10)
        faults.fail("heads", how)
        with pytest.raises(StoreUnavailable):
            await session.heads("q", claims)
        assert jids(await session.heads("q", claims)) == ["a1"]
        await faults.release()
        assert sorted(waiting(world)) == ["a2", "x"]
        world.check(["a1"])

    async def test_a_deleted_head_lets_the_next_run(self, world: World) -> None:
        session = await world.process()
        admin = Admin(session.census, world.clock, ("q",))
        await world.push(*(job(f"a{n}") for n in range(4)))
        await admin.delete("a0")
        [a1] = await claim(session)
        await settle(session, a1, outcome=FAILED)
        await admin.kill("a1", "retry")
        assert await run_all(session) == ["a2", "a3"]

    async def test_a_deleted_job_that_is_no_head_starts_none(self, world: World) -> None:
        session = await world.process()
        admin = Admin(session.census, world.clock, ("q",))
        await world.push(job("later", in_s=3600.0), job("a1"), job("a2"))
        await claim(session)
        await admin.delete("later")
        assert await claim(session) == []

    async def test_at_random(self, world: World) -> None:
        """Claims, ends of all kinds, deaths and requeues: one claim a lane, and all end."""
        rand = random.Random(7)
        sessions = [await world.process() for _ in range(3)]
        held: dict[str, tuple[Session, Claim]] = {}
        done: defaultdict[str, list[int]] = defaultdict(list)
        pushed = [(lane, n) for n in range(12) for lane in "abcd"]
        await world.push(*(job(f"{lane}{n:02}", lane) for lane, n in pushed))
        for _ in range(1000):
            session = rand.choice(sessions)
            for found in await claim(session, 2):
                lane = decode(found.raw).payload["lane"]
                assert lane not in held, f"two jobs of {lane}"
                held[lane] = session, found
            if held and rand.random() < 0.7:
                lane = rand.choice(list(held))
                owner, found = held.pop(lane)
                outcome: Outcome = rand.choice([Success(), RELEASED, Snoozed(0.0), Success()])
                assert await settle(owner, found, outcome=outcome) == [True]
                if isinstance(outcome, Success):
                    done[lane].append(int(decode(found.raw).jid[1:]))
            await session.promote(10)
            if sum(map(len, done.values())) == len(pushed):
                break
        assert done == {lane: list(range(12)) for lane in "abcd"}


def intrude(world: World, name: str, lane: str = "a") -> None:
    """Another program, such as Sidekiq's poller, puts a job of a lane into the queue itself."""
    raw = payload(name, lane=lane)
    if isinstance(world, RedisWorld):
        world.cli("LPUSH", world.key("queue:q"), raw.decode())
    else:
        world.server.queues["q"].appendleft(raw)  # type: ignore[attr-defined]


class TestOtherPrograms:
    async def test_their_jobs_run_in_their_lane(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        intrude(world, "x")
        [head] = await claim(session)
        assert jids([head]) == ["a1"]
        assert await settle(session, head) == [True]
        assert await run_all(session) == ["a2", "x"]

    async def test_in_an_idle_lane(self, world: World) -> None:
        session = await world.process()
        intrude(world, "x", "new")
        assert await run_all(session) == ["x"]
        assert await state(session, "new") == "idle"

    async def test_a_job_without_a_lane_runs(self, world: World) -> None:
        session = await world.process()
        await world.push(outgoing("plain"))
        assert jids(await claim(session)) == ["plain"]


class TestStopping:
    async def test_a_paused_lane_starts_no_job(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"), job("b1", "b"))
        assert await session.lanes.pause("q", "a")
        assert not await session.lanes.pause("q", "a")
        assert jids(await claim(session)) == ["b1"]
        await world.push(job("a3"))
        assert await claim(session) == []
        assert waiting(world) == ["a1", "a2", "a3"]
        row = await session.lanes.row("q", "a")
        assert (row.head, row.state, row.waiting) == ("", "paused", 3)
        assert row.since == pytest.approx(world.now(), abs=60)
        assert await session.lanes.resume("q", "a")
        assert not await session.lanes.resume("q", "a")
        assert await run_all(session) == ["a1", "a2", "a3"]

    async def test_what_runs_at_a_pause_may_end(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        [head] = await claim(session)
        await session.lanes.pause("q", "a")
        await settle(session, head)
        assert await claim(session) == []
        await session.lanes.resume("q", "a")
        assert await run_all(session) == ["a2"]

    async def test_what_is_retried_at_a_pause_comes_first(self, world: World) -> None:
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        await settle(session, *await claim(session), outcome=FAILED)
        await session.lanes.pause("q", "a")
        await Admin(session.census, world.clock, ("q",)).retry("a1", "retry")
        assert waiting(world) == ["a1", "a2"]
        await session.lanes.resume("q", "a")
        assert await run_all(session) == ["a1", "a2"]

    async def test_a_lane_that_does_not_exist_yet(self, world: World) -> None:
        session = await world.process()
        await session.lanes.pause("q", "new")
        await world.push(job("n1", "new"))
        assert await claim(session) == []
        [row] = (await session.lanes.page("q", "", 10)).lanes
        assert (row.name, row.state, row.waiting) == ("new", "paused", 1)
        await session.lanes.resume("q", "new")
        assert await run_all(session) == ["n1"]

    async def test_passing_a_head_over(self, world: World) -> None:
        """As when another program has deleted it from a set, so that nothing ends."""
        session = await world.process()
        await world.push(job("a1"), job("a2"))
        [head] = await claim(session)
        assert not await session.lanes.pass_over("q", "a", "other")
        assert await session.lanes.pass_over("q", "a", "a1")
        assert not await session.lanes.pass_over("q", "a", "a1")
        assert jids(world.queue("q")) == ["a2"]
        await settle(session, head)
        assert await run_all(session) == ["a2"]

    async def test_pages(self, world: World) -> None:
        session = await world.process()
        names = {f"lane {n}" for n in range(300)}
        await world.push(*(job(f"j{name}", name) for name in sorted(names)))
        await session.lanes.pause("q", "empty")
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await session.lanes.page("q", cursor, 50)
            found += [row.name for row in page.lanes]
            cursor = page.cursor
        assert set(found) == names | {"empty"}


class TestNames:
    @pytest.mark.parametrize("lane", ["a|b", "lane:q", "ünï", " ", "*", "{x}", "0", "a\tb"])
    async def test_any_text(self, world: World, lane: str) -> None:
        session = await world.process()
        await world.push(job("x1", lane), job("x2", lane))
        assert (await session.lanes.row("q", lane)).waiting == 1
        assert await run_all(session) == ["x1", "x2"]


async def test_a_key_of_another_type_loses_no_job(world: World) -> None:
    if not isinstance(world, RedisWorld):
        pytest.skip("there are no keys of a wrong type in memory")
    session = await world.process()
    world.cli("SET", world.key("kiq:heads|q"), "x")
    await world.push(job("a1"), job("a2"))
    assert sorted(await run_all_unordered(session)) == ["a1", "a2"]
    assert not any(world.members(place) for place in PLACES)


async def run_all_unordered(session: Session) -> list[str]:
    claims = await claim(session)
    await settle(session, *claims)
    return jids(claims)


def test_rows_of_a_compressed_chunk_keep_the_lane() -> None:
    one = job("a1")
    assert OutgoingJob.from_row(one.to_row()) == one
    assert json.loads(one.payload)["lane"] == "a"

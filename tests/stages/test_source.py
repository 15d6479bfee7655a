"""Queues that share a limit, and pipelines whose limit and pauses change while jobs run."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from kiqpy import current_job, worker
from kiqpy._declare.sources import Order, strict
from kiqpy.errors import StoreRefused
from kiqpy.event import JobSuccess, QueueRestarted
from kiqpy.job import Claim
from kiqpy.store import HeartbeatReply
from kiqpy.testing import rest
from tests.stages.harness import ME, World, payload, performer

pytestmark = pytest.mark.anyio

QUEUES = ["a", "b", "c"]
gates: dict[str, asyncio.Event] = {}
running: list[str] = []
started: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def fresh() -> None:
    for shelf in (gates, running, started):
        shelf.clear()


@worker
async def waits() -> None:
    jid = current_job().jid
    started[jid] += 1
    running.append(jid)
    try:
        await gates.setdefault(jid, asyncio.Event()).wait()
    finally:
        running.remove(jid)


def end(*jids: str) -> None:
    for jid in jids:
        gates.setdefault(jid, asyncio.Event()).set()


def fill(world: World, queue: str, *jids: str) -> None:
    """Into a queue, first one first."""
    world.server.queues[queue].extendleft(payload("waits", jid=jid) for jid in jids)
    world.server.wake([queue])


def waiting(world: World, queue: str) -> list[str]:
    """What is in a queue, next one first."""
    return [json.loads(raw)["jid"] for raw in reversed(world.server.queues[queue])]


def boxed(world: World) -> dict[str, int]:
    return {queue: len(box) for (_, queue), box in world.server.inboxes.items() if box}


class Group:
    """A pipeline that runs on several queues, and all that it must keep true."""

    def __init__(
        self,
        world: World,
        limit: int,
        queues: Sequence[str] = QUEUES,
        order: Order = strict,
    ) -> None:
        self.world = world
        self.pauses = world.pauses
        self.source = world.source(queues, order)
        self.pipeline = world.pipeline(performer(world, waits), limit, self.source)
        self.task = asyncio.create_task(self.pipeline.run())

    async def stop(self) -> None:
        """Ends at once; nothing is left in a private hash or in an inbox."""
        self.world.faults.heal()
        await self.pipeline.drain()
        await self.pipeline.release(1.0)
        await self.world.clock.advance(10)
        assert self.task.done()
        self.task.result()
        self.all_idle()
        assert self.world.told(QueueRestarted) == []

    def all_idle(self) -> None:
        assert boxed(self.world) == {}
        assert {owner: held for owner, held in self.world.server.privates.items() if held} == {}


def held(world: World) -> dict[str, int]:
    return {queue: len(jobs) for (_, queue), jobs in world.server.privates.items() if jobs}


def done(world: World) -> list[str]:
    return [event.job.jid for event in world.told(JobSuccess)]


# -- several queues


async def test_queues_are_fetched_from_in_order_until_the_limit_is_filled() -> None:
    world = World()
    for queue in reversed(QUEUES):
        fill(world, queue, *(f"{queue}{n}" for n in range(3)))
    group = Group(world, 5)
    await rest()
    assert held(world) == {"a": 3, "b": 2}
    end("a0")
    await rest()
    assert held(world) == {"a": 2, "b": 3}
    fill(world, "a", "a3")
    end("b0", "b1")
    await rest()
    assert held(world) == {"a": 3, "b": 1, "c": 1}
    await group.stop()
    assert waiting(world, "a") == ["a1", "a2", "a3"]
    assert waiting(world, "c") == ["c0", "c1", "c2"]


async def test_a_job_in_any_queue_is_claimed_without_polling() -> None:
    world = World()
    group = Group(world, 5)
    for n, queue in enumerate(QUEUES * 2):
        await rest()
        fill(world, queue, f"j{n}")
        await rest()
        assert running == [f"j{k}" for k in range(n + 1)][:5]
    assert world.clock.monotonic() == 0
    await group.stop()


async def test_a_paused_queue_among_others_does_not_spin_and_keeps_its_jobs() -> None:
    world = World()
    world.server.paused.add("b")
    fill(world, "b", "b0")
    group = Group(world, 5)
    await world.clock.advance(60)
    assert world.faults.calls["fetch"] <= 3 * 62
    assert held(world) == {}
    fill(world, "c", "c0")
    await rest()
    assert held(world) == {"c": 1}
    assert ("b", True) in group.pauses
    assert ("b", False) not in group.pauses
    world.server.paused.clear()
    await world.clock.advance(1)
    assert held(world) == {"b": 1, "c": 1}
    assert ("b", False) in group.pauses
    await group.stop()


async def test_when_all_are_paused_they_are_looked_at_each_second() -> None:
    world = World()
    world.server.paused.update(QUEUES)
    for queue in QUEUES:
        fill(world, queue, f"{queue}0")
    group = Group(world, 5)
    await world.clock.advance(60)
    assert 3 * 58 <= world.faults.calls["fetch"] <= 3 * 62
    assert world.faults.calls["wait"] == 0
    assert world.errors == []
    world.server.paused.discard("c")
    await world.clock.advance(1)
    assert held(world) == {"c": 1}
    await group.stop()


async def test_a_group_of_patterns_without_any_queue_yet_does_not_spin() -> None:
    world = World()
    group = Group(world, 5, queues=[])
    await world.clock.advance(60)
    assert world.faults.calls["*"] <= 1
    group.source.queues.append("a")
    fill(world, "a", "a0")
    await group.pipeline.wake()
    await rest()
    assert held(world) == {"a": 1}
    await group.stop()


async def test_an_idle_group_costs_what_its_queues_would_cost_alone() -> None:
    """Each wait that ran out cost two more commands, to end the waits that were over anyway."""
    world = World()
    group = Group(world, 5)
    await world.clock.advance(400)
    assert world.faults.calls["fetch"] <= 101 * 3
    assert world.faults.calls["wait"] <= 101 * 3
    assert world.faults.calls["unwait"] == 0
    await group.stop()


# -- a store that does not answer, or says no


@pytest.mark.parametrize("how", ["before", "after", "late"])
@pytest.mark.parametrize("call", [1, 2, 3])
async def test_a_fetch_without_an_answer_loses_nothing_that_others_brought(
    how: str, call: int
) -> None:
    world = World()
    for queue in QUEUES:
        fill(world, queue, f"{queue}0", f"{queue}1")
    world.faults.fail("fetch", how, call=call)  # type: ignore[arg-type]
    group = Group(world, 6)
    await world.clock.advance(1)
    await world.faults.release()
    await world.clock.advance(10)
    everyone = sorted(f"{queue}{n}" for queue in QUEUES for n in range(2))
    assert sorted(running) == everyone
    end(*everyone)
    await rest()
    assert started == Counter(everyone)
    assert sorted(done(world)) == everyone
    await group.stop()


async def test_a_queue_that_is_refused_starves_no_other() -> None:
    """A key of the wrong type in `critical` kept `low` from ever being asked."""
    world = World()
    world.server.floors[ME, "a"] = 10**9
    for queue in QUEUES:
        fill(world, queue, f"{queue}0")
    group = Group(world, 5)
    await rest()
    assert held(world) == {"b": 1, "c": 1}
    fill(world, "c", "c1")
    await world.clock.advance(5)
    assert held(world) == {"b": 1, "c": 2}
    calls = world.faults.calls["fetch"]
    await world.clock.advance(60)
    assert world.faults.calls["fetch"] <= calls + 3 * 30
    assert {type(error) for error in world.errors} == {StoreRefused}
    world.server.floors.clear()
    await world.clock.advance(5)
    assert held(world) == {"a": 1, "b": 1, "c": 2}
    await group.stop()


# -- waits, and what they bring


async def test_one_wait_wins_and_the_others_bring_nothing() -> None:
    world = World()
    group = Group(world, 1)
    await rest()
    assert sum(map(len, world.server.waiters.values())) == 3
    fill(world, "b", "b0")
    await rest()
    assert sum(map(len, world.server.waiters.values())) == 0
    fill(world, "c", "c0")
    fill(world, "a", "a0")
    await rest()
    assert (held(world), boxed(world)) == ({"b": 1}, {})
    assert (waiting(world, "a"), waiting(world, "c")) == (["a0"], ["c0"])
    await group.stop()


@pytest.mark.parametrize("queues", [["c"], ["b"], ["c", "b"]])
async def test_what_waits_brought_and_no_slot_is_free_for_goes_back_at_once(
    queues: list[str],
) -> None:
    """It lay in the inbox until the next heartbeat, and no idle process could run it."""
    world = World()
    group = Group(world, 1)
    await rest()
    for queue in queues:  # in one turn of the loop: all waits bring something
        fill(world, queue, f"{queue}0")
    world.server.queues["a"].append(payload("waits", jid="better"))
    await rest()
    assert running == ["better"]
    assert boxed(world) == {}
    assert {queue: waiting(world, queue) for queue in queues} == {q: [f"{q}0"] for q in queues}
    await group.stop()


@pytest.mark.parametrize("queues", [["a"], QUEUES])
async def test_a_job_that_a_wait_brought_after_the_limit_was_lowered_goes_back_at_once(
    queues: list[str],
) -> None:
    world = World()
    group = Group(world, 2, queues=queues)
    await rest()
    fill(world, "a", "first")
    await rest()
    group.pipeline.scale(1)
    fill(world, "a", "second")
    await rest()
    assert boxed(world) == {}
    assert waiting(world, "a") == ["second"]
    end("first")
    await rest()
    assert running == ["second"]
    await group.stop()


async def test_a_wait_that_breaks_strands_nothing_in_the_other_inboxes() -> None:
    world = World()
    world.faults.fail("wait", "before", call=2)
    world.faults.fail("unwait", "before", times=2)
    group = Group(world, 1)
    for queue in ("b", "c"):
        world.server.inboxes[ME, queue].append(payload("waits", jid=f"{queue}0"))
    world.server.queues["a"].append(payload("waits", jid="a0"))
    await world.clock.advance(2)
    assert running == ["a0"]
    group.source._inbox_maybe_full.update(("b", "c"))  # as a lost reply leaves them
    group.pipeline._producer.look()
    await rest()
    assert boxed(world) == {}
    await group.stop()


async def stepped(steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [1, 2, 6])
async def test_cancelled_at_any_step_each_job_is_somewhere_once(limit: int) -> None:
    """Jobs come in at each turn; cancelled at turn k, everything is on record, once."""
    jids = [f"{queue}{n}" for n in range(4) for queue in QUEUES]
    for k in range(40):
        world = World()
        group = Group(world, limit)
        for turn in range(k):
            if turn % 3 == 0 and turn // 3 < len(jids):
                jid = jids[turn // 3]
                fill(world, jid[0], jid)
            await asyncio.sleep(0)
        group.task.cancel()
        await rest()
        await world.clock.advance(5)
        assert group.task.cancelled()
        assert Counter(world.everywhere()) == Counter(jids[: (k + 2) // 3])
        running.clear()


@pytest.mark.parametrize("limit", [1, 2, 6])
async def test_stopped_at_any_step_each_job_is_back_in_its_queue(limit: int) -> None:
    jids = [f"{queue}{n}" for n in range(4) for queue in QUEUES]
    for k in range(40):
        world = World()
        group = Group(world, limit)
        for turn in range(k):
            if turn % 3 == 0 and turn // 3 < len(jids):
                jid = jids[turn // 3]
                fill(world, jid[0], jid)
            await asyncio.sleep(0)
        await group.stop()
        there = jids[: (k + 2) // 3]
        assert {q: waiting(world, q) for q in QUEUES} == {
            q: [jid for jid in there if jid[0] == q] for q in QUEUES
        }


# -- the heartbeat finds what was lost


async def test_a_claim_of_any_of_its_queues_is_adopted_when_it_is_seen_twice() -> None:
    world = World()
    group = Group(world, 3)
    await rest()
    world.server.privates[ME, "c"][77] = payload("waits", jid="stray")
    orders = HeartbeatReply(None, {"a": 0, "b": 0, "c": 1}, {})
    await group.pipeline.reconcile(orders)
    await rest()
    assert running == []
    await group.pipeline.reconcile(orders)
    await rest()
    assert running == ["stray"]
    await group.pipeline.reconcile(orders)
    await rest()
    assert started == {"stray": 1}
    await group.stop()


async def test_claims_of_a_fetch_that_still_asks_for_cancels_are_not_adopted() -> None:
    """They were on record, no longer in doubt and not yet known: two heartbeats ran them twice."""
    world = World()
    group = Group(world, 3, queues=["a"])
    await rest()
    real_marks, gate = world.backend.marks, asyncio.Event()

    async def marks(after: float) -> list[tuple[str, float]]:
        await gate.wait()
        return await real_marks(after)

    world.backend.marks = marks  # type: ignore[method-assign]
    await world.store.census.cancel("another", keep=True)
    fill(world, "a", "a0")
    await rest()
    assert held(world) == {"a": 1}
    for _ in range(3):
        await group.pipeline.reconcile(HeartbeatReply(None, {"a": 1}, {"a": 0}))
        await rest()
    gate.set()
    await rest()
    assert started == {"a0": 1}
    await group.stop()


async def test_a_full_line_hears_of_a_pause_at_a_heartbeat() -> None:
    world = World()
    fill(world, "a", "a0", "a1")
    group = Group(world, 1, queues=["a"])
    await rest()
    world.server.paused.add("a")
    await world.clock.advance(60)
    assert ("a", True) not in group.pauses
    fetches = world.faults.calls["fetch"]
    await group.pipeline.reconcile(HeartbeatReply(None, {"a": 1}, {"a": 0}))
    await rest()
    assert ("a", True) in group.pauses
    await world.clock.advance(60)
    assert world.faults.calls["fetch"] == fetches + 1
    assert waiting(world, "a") == ["a1"]
    await group.stop()


# -- settling, and starting anew


async def test_a_mixed_batch_is_settled_queue_by_queue() -> None:
    world = World()
    everyone = [f"{queue}{n}" for queue in QUEUES for n in range(4)]
    for jid in everyone:
        fill(world, jid[0], jid)
    group = Group(world, 12)
    await rest()
    end(*everyone)
    await rest()
    assert sorted(done(world)) == everyone
    assert world.faults.calls["settle"] == 3
    assert held(world) == {}
    assert not any(map(group.source.claimed, group.source.queues))
    assert group.pipeline.statistics() == (12, 0, 0)
    await group.stop()


async def test_a_restart_gives_everything_back_to_the_queue_it_came_from() -> None:
    world = World()
    for queue in QUEUES:
        fill(world, queue, f"{queue}0", f"{queue}1")
    group = Group(world, 5)
    await rest()
    assert held(world) == {"a": 2, "b": 2, "c": 1}
    real_settle = world.store.settle

    async def settle(frame):  # type: ignore[no-untyped-def]
        world.store.settle = real_settle  # type: ignore[method-assign]
        world.server.paused.update(QUEUES)  # so that it can be seen what is where
        raise ZeroDivisionError

    world.store.settle = settle  # type: ignore[method-assign]
    end("b0")
    await world.clock.advance(10)
    assert [event.queue for event in world.told(QueueRestarted)] == ["a,b,c"]
    assert held(world) == {}
    assert {q: waiting(world, q) for q in QUEUES} == {q: [f"{q}0", f"{q}1"] for q in QUEUES}
    world.server.paused.clear()
    await world.clock.advance(2)
    end(*(f"{queue}{n}" for queue in QUEUES for n in range(2)))
    await world.clock.advance(2)
    assert sorted(done(world)) == sorted(f"{queue}{n}" for queue in QUEUES for n in range(2))
    world.events.clear()
    await group.stop()


# -- the limit changes


def slow_fetch(world: World) -> tuple[asyncio.Event, asyncio.Event]:
    """The answer of the next fetch comes when the second event is set; the first: it was sent."""
    sent, answer, real = asyncio.Event(), asyncio.Event(), world.store.fetch

    async def fetch(queue: str, limit: int) -> list[Claim]:
        world.store.fetch = real  # type: ignore[method-assign]
        claims = await real(queue, limit)
        sent.set()
        await answer.wait()
        return claims

    world.store.fetch = fetch  # type: ignore[method-assign]
    return sent, answer


@pytest.mark.parametrize("lower", [1, 2, 4])
async def test_a_limit_lowered_while_a_fetch_is_under_way_breaks_nothing(lower: int) -> None:
    """`Edge.offer` raises for more than the demand; the rest must wait for slots, in order."""
    world = World()
    everyone = [f"a{n}" for n in range(5)]
    fill(world, "a", *everyone)
    sent, answer = slow_fetch(world)
    group = Group(world, 5, queues=["a"])
    await sent.wait()
    group.pipeline.scale(lower)
    answer.set()
    await rest()
    assert running == everyone[:lower]
    for n, jid in enumerate(everyone):
        end(jid)
        await rest()
        assert running == everyone[n + 1 : n + 1 + lower]
    assert done(world) == everyone
    assert started == Counter(everyone)
    await group.stop()


async def test_a_limit_lowered_below_what_runs_interrupts_nothing_and_starts_nothing() -> None:
    world = World()
    fill(world, "a", *(f"a{n}" for n in range(8)))
    group = Group(world, 4)
    await rest()
    group.pipeline.scale(2)
    for jid, runs in (("a0", 3), ("a1", 2), ("a2", 2), ("a3", 2)):
        end(jid)
        await rest()
        assert len(running) == runs
    assert sorted(started) == [f"a{n}" for n in range(6)]
    calls = world.faults.calls.copy()
    await world.clock.advance(100)
    assert world.faults.calls == calls
    group.pipeline.scale(4)
    await rest()
    assert len(running) == 4
    await group.stop()


MOST = 8  # slots


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_limit_does_it_is_never_exceeded(seed: int) -> None:
    """Scaled up and down at random while jobs come, run and end: a claim needs a free slot."""
    world, rand = World(), random.Random(seed)
    group = Group(world, 3)
    pipeline, total = group.pipeline, 0
    for _ in range(300):
        act = rand.random()
        if act < 0.45:
            queue = rand.choice(QUEUES)
            come = rand.randrange(1, 6)
            fill(world, queue, *(f"{queue}{total + n}" for n in range(come)))
            total += come
        elif act < 0.8 and running:
            end(*rand.sample(running, rand.randrange(1, len(running) + 1)))
        elif act < 0.95:
            pipeline.scale(rand.randint(1, MOST))
        else:
            world.faults.fail("fetch", rand.choice(["before", "after"]))
        before = pipeline._claims.statistics().owed
        await (rest() if rand.random() < 0.5 else stepped(rand.randrange(4)))
        limit, claimed, runs = pipeline.statistics()
        owed = pipeline._claims.statistics().owed
        assert owed <= max(limit, before)
        assert len(running) <= runs <= owed
        assert runs <= claimed <= owed + MOST  # and a frame of acks
        if rand.random() < 0.2:
            await world.clock.advance(0.5)
    for _ in range(2 * total):  # a fetch that was to fail may still be waiting for its next try
        end(*running)
        await world.clock.advance(1)
    assert sum(started.values()) == len(started) == total
    await group.stop()


# -- rest


@pytest.mark.parametrize("queues", [["a"], QUEUES])
async def test_a_resting_line_claims_nothing_and_asks_nothing(queues: list[str]) -> None:
    world = World()
    group = Group(world, 2, queues=queues)
    await rest()
    group.pipeline.quiet(True)
    await group.pipeline.wake()
    fill(world, "a", "a0")
    await rest()
    calls = world.faults.calls.copy()
    await world.clock.advance(100)
    assert (running, world.faults.calls) == ([], calls)
    assert boxed(world) == {}
    group.pipeline.quiet(False)
    await rest()
    assert running == ["a0"]
    await group.stop()


async def test_jobs_that_were_claimed_before_the_rest_are_run() -> None:
    """They were kept until the rest was over, and nobody else could run them."""
    world = World()
    fill(world, "a", "a0", "a1", "a2", "a3")
    sent, answer = slow_fetch(world)
    group = Group(world, 3, queues=["a"])
    await sent.wait()
    group.pipeline.scale(1)
    group.pipeline.quiet(True)
    answer.set()
    await group.pipeline.wake()
    await rest()
    for jid in ("a0", "a1", "a2"):
        assert running == [jid]
        end(jid)
        await rest()
    assert running == []
    assert waiting(world, "a") == ["a3"]
    await group.stop()


async def test_jobs_that_wait_for_a_slot_at_the_stop_go_back_too() -> None:
    world = World()
    fill(world, "a", "a0", "a1", "a2", "a3")
    sent, answer = slow_fetch(world)
    group = Group(world, 3, queues=["a"])
    await sent.wait()
    group.pipeline.scale(1)
    group.pipeline.quiet(True)
    answer.set()
    await rest()
    assert running == ["a0"]
    await group.stop()
    back = waiting(world, "a")
    assert (sorted(back[:3]), back[3:]) == (["a0", "a1", "a2"], ["a3"])


Act = Callable[[Group], Awaitable[object]]


async def pause(group: Group) -> None:
    group.world.server.paused.update(group.source.queues)


async def resume(group: Group) -> None:
    group.world.server.paused.clear()
    await group.pipeline.wake()


async def resting(group: Group) -> None:
    group.pipeline.quiet(True)
    await group.pipeline.wake()


async def awake(group: Group) -> None:
    group.pipeline.quiet(False)
    await group.pipeline.wake()


ACTS: list[Act] = [pause, resume, resting, awake, lambda group: group.pipeline.wake()]


@pytest.mark.parametrize("seed", range(12))
async def test_rest_pause_and_wake_at_once_lose_nothing_and_end_in_order(seed: int) -> None:
    """All at once, in any order, with jobs coming and ending and a stop in the midst of it."""
    world, rand = World(), random.Random(seed)
    group = Group(world, 3, queues=QUEUES[: rand.choice([1, 3])])
    tasks = set[asyncio.Future[object]]()
    total = 0
    for _ in range(200):
        tasks.add(asyncio.ensure_future(rand.choice(ACTS)(group)))
        if rand.random() < 0.5:
            fill(world, rand.choice(group.source.queues), f"j{total}")
            total += 1
        if running and rand.random() < 0.5:
            end(rand.choice(running))
        await stepped(rand.randrange(4))
        if rand.random() < 0.1:
            await world.clock.advance(rand.random())
    final = rand.random() < 0.5
    if final:  # everything must go on where it was left
        await asyncio.gather(*tasks)
        await asyncio.gather(resume(group), awake(group))
        await world.clock.advance(2)
        while running:
            end(*running)
            await world.clock.advance(2)
        assert started == Counter(f"j{n}" for n in range(total))
    await group.stop()
    await asyncio.gather(*tasks)
    assert Counter([*done(world), *world.everywhere()]) == Counter(f"j{n}" for n in range(total))

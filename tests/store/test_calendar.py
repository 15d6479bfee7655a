"""Periodic ticks and the leader, on each backend: each tick once, whoever sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kiqpy.errors import StoreRefused
from kiqpy.outcome import Lock
from kiqpy.store.calendar import Calendar, Tick, TickResult
from tests.server import TestServer
from tests.store.contract import MemoryWorld, RedisWorld, World, jids, outgoing

pytestmark = pytest.mark.anyio
QUEUED, PAST, OFF = TickResult("queued"), TickResult("past"), TickResult("off")


@pytest.fixture(params=["memory", "redis", "redis with a namespace"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    else:
        server: TestServer = request.getfixturevalue("clean")
        made = RedisWorld(server, "shop:" if "namespace" in request.param else "")
    yield made
    await made.close()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return "shop:"


async def calendar(world: World) -> Calendar:
    return (await world.process()).calendar


def ticks(*instants: float, lock: Lock | None = None, in_s: float | None = None) -> list[Tick]:
    return [Tick(at, outgoing(f"t{at:g}", lock=lock, in_s=in_s)) for at in instants]


async def test_a_tick_is_enqueued_once_whoever_sends_it(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    assert await one.tick("p", ticks(10, 20), True) == [QUEUED, QUEUED]
    assert await two.tick("p", ticks(10, 20, 30), True) == [PAST, PAST, QUEUED]
    assert await one.tick("p", ticks(25, 30), True) == [PAST, PAST]
    assert jids(world.queue("q")) == ["t10", "t20", "t30"]
    assert await one.tick("other", ticks(20), True) == [QUEUED], "names do not meet"
    state = await two.state(["p", "nobody"])
    assert state.marks == {"p": (30.0, True)}
    assert state.switched == {}
    assert abs(state.now - world.now()) < 2


async def test_many_at_once_enqueue_each_tick_once(world: World) -> None:
    each = [await calendar(world) for _ in range(8)]
    answers = await asyncio.gather(*(one.tick("p", ticks(*range(1, 51)), True) for one in each))
    assert sum(answer.count(QUEUED) for answer in answers) == 50
    assert sorted(jids(world.queue("q"))) == sorted(f"t{n}" for n in range(1, 51))


async def test_the_queue_of_a_tick_is_known(world: World) -> None:
    one = await calendar(world)
    await one.tick("p", [Tick(1.5, outgoing("a", "mail"))], True)
    assert jids(world.queue("mail")) == ["a"]
    assert (await one.state(["p"])).marks["p"].at == 1.5
    if isinstance(world, RedisWorld):
        assert world.cli("SMEMBERS", world.key("queues")) == ["mail"]


async def test_the_seconds_of_our_century_are_kept_exactly(world: World) -> None:
    one = await calendar(world)
    at = 1_700_000_001.123456
    assert await one.tick("p", ticks(at), True) == [QUEUED]
    assert await one.tick("p", ticks(at), True) == [PAST]
    assert (await one.state(["p"])).marks["p"].at == at
    assert await one.tick("p", ticks(at + 1e-6), True) == [QUEUED]


async def test_a_delayed_tick_waits_in_the_schedule(world: World) -> None:
    one = await calendar(world)
    before = world.now()
    assert await one.tick("p", ticks(10, in_s=50.0), True) == [TickResult("scheduled")]
    assert world.queue("q") == []
    due = world.due_at("schedule")["t10"]
    assert before + 50 - 0.01 <= due <= world.now() + 50 + 0.01


async def test_a_tick_without_a_job_is_passed_over(world: World) -> None:
    one = await calendar(world)
    await one.tick("p", ticks(5), True)
    assert await one.tick("p", [Tick(30.5, None)], True) == [PAST]
    assert (await one.state(["p"])).marks["p"] == (30.5, False)
    assert await one.tick("p", ticks(30, 31), True) == [PAST, QUEUED]


async def test_a_unique_job_that_is_there_already_uses_up_the_tick(world: World) -> None:
    one = await calendar(world)
    lock = Lock("token", 60.0)
    first, second = await one.tick("p", ticks(10, 20, lock=lock), True)
    assert (first, second) == (QUEUED, TickResult("duplicate", "t10"))
    assert jids(world.queue("q")) == ["t10"]
    holder, left_s = world.lock("token") or ("", 0)
    assert holder == "t10"
    assert 50 < left_s <= 60
    assert await one.tick("p", ticks(20), True) == [PAST]
    assert (await one.state(["p"])).marks["p"].at == 20


async def test_a_job_that_is_there_already_is_not_enqueued_again(world: World) -> None:
    one = await calendar(world)
    lock = Lock("token", 60.0)
    await one.tick("p", ticks(10, lock=lock), True)
    (again,) = await one.tick("other", [Tick(1, outgoing("t10", lock=lock))], True)
    assert again == TickResult("duplicate", "t10")


async def test_a_new_periodic_counts_from_when_it_was_noted(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    await one.register({"p": "daily"})
    noted = (await one.state(["p"])).marks["p"]
    assert not noted.ticked
    assert abs(noted.at - world.now()) < 2
    await two.register({"p": "daily", "p2": "daily"})
    assert (await one.state(["p"])).marks["p"] == noted, "a mark is never moved back or on"
    assert await one.tick("p", ticks(noted.at - 1, noted.at + 1), True) == [PAST, QUEUED]
    await two.register({"p": "daily"})
    assert (await one.state(["p"])).marks["p"] == (noted.at + 1, True)


async def test_a_changed_schedule_begins_at_the_change(world: World) -> None:
    one = await calendar(world)
    await one.tick("p", ticks(10), True)
    await one.register({"p": "weekly"})
    state = await one.state(["p", "other"])
    assert state.marks["p"] == (10, True), "a mark without a schedule is taken over"
    assert state.schedules == {"p": "weekly"}
    await one.register({"p": "daily"})
    state = await one.state(["p"])
    assert state.schedules == {"p": "daily"}
    assert not state.marks["p"].ticked
    assert abs(state.marks["p"].at - world.now()) < 2
    await one.register({"p": "daily"})
    assert (await one.state(["p"])).marks == state.marks


async def test_a_mark_from_a_wrong_clock_is_put_right(world: World) -> None:
    one = await calendar(world)
    now = world.now()
    await one.tick("far", ticks(now + 86_400), True)
    await one.tick("near", ticks(now + 60), True)
    await one.register({"far": "daily", "near": "daily"})
    marks = (await one.state(["far", "near"])).marks
    assert abs(marks["far"].at - world.now()) < 2
    assert marks["near"] == (now + 60, True)


async def test_a_disabled_periodic_has_no_ticks(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    now = world.now()
    await one.tick("p", ticks(now - 100), True)
    assert await two.switch("p", False, True)
    assert not await one.switch("p", False, True), "it was so already"
    assert (await one.state(["p"])).switched == {"p": False}
    assert await one.tick("p", ticks(now - 50), True) == [OFF]
    assert (await one.state(["p"])).marks["p"] == (now - 100, True), "nothing has changed"

    assert await one.switch("p", True, True)
    state = await two.state(["p"])
    assert state.switched == {}, "it is as declared again"
    assert not state.marks["p"].ticked
    later = world.now() + 5
    assert await one.tick("p", ticks(now - 50, later), True) == [PAST, QUEUED]


async def test_enabling_what_is_enabled_moves_no_mark(world: World) -> None:
    one = await calendar(world)
    await one.tick("p", ticks(10), True)
    assert not await one.switch("p", True, True)
    assert (await one.state(["p"])).marks["p"] == (10.0, True)


async def test_what_is_declared_as_disabled_can_be_enabled(world: World) -> None:
    one = await calendar(world)
    at = world.now() + 5
    assert await one.tick("p", ticks(at), False) == [OFF]
    assert not await one.switch("p", False, False)
    assert await one.switch("p", True, False)
    assert (await one.state(["p"])).switched == {"p": True}
    assert await one.tick("p", ticks(at), False) == [QUEUED]
    assert await one.switch("p", False, False)
    assert (await one.state(["p"])).switched == {}


async def test_one_leads_at_a_time_and_until_it_resigns(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    assert await one.lead(60.0)
    assert await one.lead(60.0), "it may go on"
    assert not await two.lead(60.0)
    await two.resign()
    assert not await two.lead(60.0), "nobody resigns for another"
    assert await two.lead(60.0, "others"), "each group has its own"
    assert not await one.lead(60.0, "others")
    await one.resign()
    await one.resign()
    assert await two.lead(60.0)


async def test_a_leader_that_does_not_renew_is_replaced(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    assert await one.lead(0.3)
    await world.eventually(lambda: two.lead(60.0), step_s=0.02)
    assert not await one.lead(60.0)
    await one.resign()
    assert await two.lead(60.0), "the old one can't resign for it"


async def test_renewing_makes_it_longer(world: World) -> None:
    one, two = await calendar(world), await calendar(world)
    assert await one.lead(0.2)
    assert await one.lead(60.0)
    await world.let_pass(0.25)
    assert not await two.lead(60.0)


async def test_a_wrong_type_changes_nothing_and_says_so(clean: TestServer) -> None:
    world = RedisWorld(clean)
    one = await calendar(world)
    clean.cli("SET", "queue:q", "junk")
    lock = Lock("token", 60.0)
    with pytest.raises(StoreRefused, match="queue:q holds a string"):
        await one.tick("p", ticks(10, lock=lock), True)
    assert clean.cli("EXISTS", "kiq:cron", "unique:token", "queues") == 0
    clean.cli("DEL", "queue:q")
    assert await one.tick("p", ticks(10, lock=lock), True) == [QUEUED]
    await world.close()


async def test_a_call_sent_again_to_a_server_that_forgot_the_scripts(clean: TestServer) -> None:
    world = RedisWorld(clean)
    one = await calendar(world)
    for n in range(1, 40):
        clean.cli("SCRIPT", "FLUSH")
        assert await one.tick("p", ticks(n), True) == [QUEUED]
        assert await one.tick("p", ticks(n), True) == [PAST], "the same, as after a lost reply"
    assert len(world.queue("q")) == 39
    await world.close()

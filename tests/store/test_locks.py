"""Locks of unique jobs, on each backend: their owner, their time, what frees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kiqpy._rules.decide import POISON_STARTS
from kiqpy.errors import StoreRefused, StoreUnavailable
from kiqpy.job import Claim, decode
from kiqpy.outcome import (
    Bury,
    Defer,
    Done,
    ExtendLock,
    FreeLock,
    Lock,
    Release,
    Retry,
    TakeLock,
    Verdict,
)
from kiqpy.store import Pushed
from kiqpy.store._session import Session
from kiqpy.store.calendar import Tick
from kiqpy.store.census import Transfer
from tests.faults import Faults, How
from tests.store.contract import (
    MemoryWorld,
    RedisWorld,
    World,
    jids,
    outgoing,
)

pytestmark = pytest.mark.anyio

LOCK = Lock("token", 60.0)
KIQS = "0123456789abcdef0123456789abcdef01234567"
NOBODYS = Lock(KIQS, 0.0, owned=False)
WHILE = pytest.approx(60.0, abs=5.0)
HOWS: list[How] = ["before", "after", "late"]


@pytest.fixture
def redis_world(world: World) -> RedisWorld:
    if not isinstance(world, RedisWorld):
        pytest.skip("there are no keys of a wrong type, and no keys, in memory")
    return world


def hold(world: World, token: str, value: str, left_s: float = 1000.0) -> None:
    """Somebody has the lock."""
    if isinstance(world, MemoryWorld):
        world.server.locks[token] = (value, world.now() + left_s)
    else:
        assert isinstance(world, RedisWorld)
        world.cli("SET", world.key(f"unique:{token}"), value, "PX", int(left_s * 1000))


def holder(world: World) -> str | None:
    found = world.lock("token")
    return found[0] if found else None


async def claimed(session: Session) -> Claim:
    (claim,) = await session.fetch("q", 1)
    return claim


async def at_work(world: World, jid: str = "a", **fields: Any) -> tuple[Session, Claim]:
    """A process that has claimed a job which has the lock."""
    await world.push(outgoing(jid, lock=LOCK, **fields))
    session = await world.process()
    return session, await claimed(session)


async def settle(session: Session, *verdicts: Verdict) -> list[bool]:
    return await session.settle(session.frame("q", verdicts))


def verdicts(claim: Claim, jid: str, lock: Lock) -> dict[str, Verdict]:
    """Every verdict there is, under its name."""
    n, raw = claim.delivery, claim.raw
    frees, holds = (FreeLock(lock, jid),), (ExtendLock(lock, jid, 500.0),)
    return {
        "done": Done(n, False, frees),
        "failed": Done(n, True, frees),
        "bury": Bury(n, raw, frees),
        "retry": Retry(n, raw, 500.0, holds),
        "defer": Defer(n, raw, 500.0, holds),
        "release": Release(n),
    }


ENDS = ["done", "failed", "bury"]
PUT_OFF = ["retry", "defer"]


class TestPush:
    async def test_one_job_of_each_token(self, world: World) -> None:
        first, second = await world.push(outgoing("a", lock=LOCK), outgoing("b", lock=LOCK))
        assert (first, second) == (Pushed("queued"), Pushed("duplicate", "a"))
        assert await world.push(outgoing("c", lock=LOCK)) == [Pushed("duplicate", "a")]
        assert jids(world.queue("q")) == ["a"]
        assert world.lock("token") == ("a", WHILE)

    async def test_many_at_once_from_many_clients(self, world: World) -> None:
        clients = [await world.process(beat=False) for _ in range(5)]
        frames = [
            world.frame(*(outgoing(f"{n}-{k}", lock=LOCK) for k in range(10)), source=f"client {n}")
            for n in range(5)
        ]
        answers = await asyncio.gather(
            *(client.push(frame) for client, frame in zip(clients, frames, strict=True))
        )
        (winner,) = jids(world.queue("q"))
        found = [result for answer in answers for result in answer]
        assert found.count(Pushed("queued")) == 1
        assert found.count(Pushed("duplicate", winner)) == 49

    @pytest.mark.parametrize("kind", ["in_s", "at_s"])
    async def test_a_delay_counts_from_the_servers_time(self, world: World, kind: str) -> None:
        """Not from the client's: a clock that is late let the lock go before the job was due."""
        due = 500.0 if kind == "in_s" else world.now() + 500.0
        await world.push(outgoing("a", lock=LOCK, **{kind: due}))
        assert world.lock("token") == ("a", pytest.approx(560.0, abs=5.0))

    async def test_what_was_due_long_ago_is_held_as_if_it_were_due_now(self, world: World) -> None:
        await world.push(outgoing("a", lock=LOCK, at_s=5.0), outgoing("b", lock=Lock("t", 60.0)))
        assert world.lock("token") == ("a", WHILE)
        assert world.lock("t") == ("b", WHILE)

    @pytest.mark.parametrize("in_s", [1e12, 1e15, 1e18, 1e300])
    async def test_a_delay_of_ages_is_no_error(self, world: World, in_s: float) -> None:
        """The frame had been half stored when the server refused the lock's time."""
        results = await world.push(
            outgoing("a"), outgoing("b", in_s=in_s, lock=LOCK), outgoing("c")
        )
        assert [result.state for result in results] == ["queued", "scheduled", "queued"]
        assert world.lock("token") is not None

    async def test_the_same_job_twice_is_a_duplicate_of_itself(self, world: World) -> None:
        """Who chooses jids may be sure that a job is there once: it was stored a second time."""
        first, second = await world.push(outgoing("a", lock=LOCK), outgoing("a", lock=LOCK))
        assert (first, second) == (Pushed("queued"), Pushed("duplicate", "a"))
        assert await world.push(outgoing("a", lock=LOCK)) == [Pushed("duplicate", "a")]
        assert jids(world.queue("q")) == ["a"]

    async def test_a_lock_that_ran_out_is_free(self, world: World) -> None:
        await world.push(outgoing("a", lock=Lock("token", 0.02)))
        await world.let_pass(0.05)
        assert await world.push(outgoing("b", lock=LOCK)) == [Pushed("queued")]
        assert world.lock("token") == ("b", WHILE)

    async def test_a_lost_reply_is_no_duplicate_of_itself(self, world: World) -> None:
        for how in HOWS:
            faults = Faults()
            faults.fail("push", how)
            client = await world.process(faults=faults, beat=False)
            frame = world.frame(outgoing(how, lock=Lock(how, 60.0)), source=how)
            with pytest.raises(StoreUnavailable):
                await client.push(frame)
            assert await client.push(frame) == [Pushed("queued")]
            await faults.release()
            assert world.lock(how) == (how, WHILE)
        assert sorted(jids(world.queue("q"))) == sorted(HOWS)

    async def test_a_key_of_another_type_is_a_conflict_with_nobody(
        self, redis_world: RedisWorld
    ) -> None:
        """It broke off the frame in the middle: what stood before it was stored, and refused."""
        redis_world.cli("RPUSH", redis_world.key("unique:token"), "x")
        results = await redis_world.push(outgoing("a"), outgoing("b", lock=LOCK), outgoing("c"))
        assert results == [Pushed("queued"), Pushed("duplicate", "?"), Pushed("queued")]
        assert jids(redis_world.queue("q")) == ["a", "c"]
        redis_world.cli("DEL", redis_world.key("unique:token"))

    async def test_what_can_not_be_stored_keeps_nobody_out(self, redis_world: RedisWorld) -> None:
        """Its lock stayed: the next one was told that it is there already, and was lost."""
        redis_world.cli("ACL", "SETUSER", "default", "-lpush")
        try:
            (result,) = await redis_world.push(outgoing("a", lock=LOCK))
        finally:
            redis_world.cli("ACL", "SETUSER", "default", "+lpush")
        assert result.state == "refused"
        assert redis_world.lock("token") is None

    async def test_a_refused_queue_takes_no_lock(self, redis_world: RedisWorld) -> None:
        redis_world.cli("SET", redis_world.key("queue:q"), "x")
        (result,) = await redis_world.push(outgoing("a", lock=LOCK))
        assert result.state == "refused"
        assert redis_world.lock("token") is None
        redis_world.cli("DEL", redis_world.key("queue:q"))


class TestSettle:
    @pytest.mark.parametrize("name", ENDS)
    async def test_what_ends_frees_its_lock(self, world: World, name: str) -> None:
        session, claim = await at_work(world)
        assert await settle(session, verdicts(claim, "a", LOCK)[name]) == [True]
        assert world.lock("token") is None

    @pytest.mark.parametrize("name", PUT_OFF)
    async def test_what_is_put_off_holds_it_until_then_and_longer(
        self, world: World, name: str
    ) -> None:
        """Also where the lock would have run out long before."""
        session, claim = await at_work(world)
        await settle(session, verdicts(claim, "a", LOCK)[name])
        assert world.lock("token") == ("a", pytest.approx(560.0, abs=5.0))

    @pytest.mark.parametrize("name", PUT_OFF)
    async def test_a_lock_is_never_held_for_less(self, world: World, name: str) -> None:
        """Exq's payload may say no time: with no delay either, its lock was gone at once."""
        await world.push(outgoing("a", lock=Lock("token", 5000.0)))
        session = await world.process()
        claim = await claimed(session)
        kind = {"retry": Retry, "defer": Defer}[name]
        effects = (ExtendLock(Lock("token", 0.0), "a", 0.0),)
        await settle(session, kind(claim.delivery, claim.raw, 0.0, effects))
        assert world.lock("token") == ("a", pytest.approx(5000.0, abs=5.0))

    async def test_what_goes_back_keeps_it_as_it_is(self, world: World) -> None:
        session, claim = await at_work(world)
        await settle(session, verdicts(claim, "a", LOCK)["release"])
        assert world.lock("token") == ("a", WHILE)

    @pytest.mark.parametrize("name", [*ENDS, *PUT_OFF])
    async def test_what_only_time_frees(self, world: World, name: str) -> None:
        session, claim = await at_work(world)
        await settle(session, verdicts(claim, "a", LOCK)[name]._replace(effects=()))
        assert world.lock("token") == ("a", WHILE)

    @pytest.mark.parametrize("name", [*ENDS, *PUT_OFF, "release"])
    async def test_a_newer_jobs_lock_is_left_alone(self, world: World, name: str) -> None:
        """Its own ran out while it ran, or was freed at its start."""
        session, claim = await at_work(world)
        hold(world, "token", "newer", 30.0)
        await settle(session, verdicts(claim, "a", LOCK)[name])
        assert world.lock("token") == ("newer", pytest.approx(30.0, abs=5.0))

    @pytest.mark.parametrize("name", PUT_OFF)
    async def test_a_lock_that_ran_out_does_not_come_back(self, world: World, name: str) -> None:
        await world.push(outgoing("a", lock=Lock("token", 0.02)))
        session = await world.process()
        claim = await claimed(session)
        await world.let_pass(0.05)
        await settle(session, verdicts(claim, "a", LOCK)[name])
        assert world.lock("token") is None

    @pytest.mark.parametrize("name", [*ENDS, *PUT_OFF])
    async def test_who_no_longer_owns_the_job_changes_no_lock(
        self, world: World, name: str
    ) -> None:
        session, claim = await at_work(world)
        await settle(session, Release(claim.delivery))
        assert await settle(session, verdicts(claim, "a", LOCK)[name]) == [False]
        assert world.lock("token") == ("a", WHILE)

    @pytest.mark.parametrize("how", HOWS)
    @pytest.mark.parametrize("name", [*ENDS, *PUT_OFF])
    async def test_a_lost_reply_changes_nothing(self, world: World, name: str, how: How) -> None:
        """Meanwhile another job may have taken the lock."""
        await world.push(outgoing("a", lock=LOCK))
        faults = Faults()
        session = await world.process(faults=faults)
        frame = session.frame("q", [verdicts(await claimed(session), "a", LOCK)[name]])
        faults.fail("settle", how)
        with pytest.raises(StoreUnavailable):
            await session.settle(frame)
        if world.lock("token") is None:
            hold(world, "token", "newer")
        assert await session.settle(frame) == [True]
        if name in ENDS and world.lock("token") is None:
            hold(world, "token", "newer")
        await faults.release()
        holder = world.lock("token")
        assert holder is not None
        assert holder[0] == ("newer" if name in ENDS else "a")
        if name in PUT_OFF:
            assert holder[1] == pytest.approx(560.0, abs=5.0)

    async def test_two_jobs_of_one_frame_each_their_own(self, world: World) -> None:
        other = Lock("other", 60.0)
        await world.push(outgoing("a", lock=LOCK), outgoing("b", lock=other), outgoing("c"))
        session = await world.process()
        a, b, c = await session.fetch("q", 3)
        await settle(
            session,
            Done(c.delivery),
            Retry(a.delivery, a.raw, 500.0, (ExtendLock(LOCK, "a", 500.0),)),
            Done(b.delivery, False, (FreeLock(other, "b"),)),
        )
        assert world.lock("token") == ("a", pytest.approx(560.0, abs=5.0))
        assert world.lock("other") is None

    @pytest.mark.parametrize("name", [*ENDS, *PUT_OFF])
    async def test_a_key_of_another_type_stops_nothing(
        self, redis_world: RedisWorld, name: str
    ) -> None:
        """It broke the frame off after the job had been added: each new try added it once more."""
        session, claim = await at_work(redis_world)
        redis_world.cli("DEL", redis_world.key("unique:token"))
        redis_world.cli("RPUSH", redis_world.key("unique:token"), "x")
        assert await settle(session, verdicts(claim, "a", LOCK)[name]) == [True]
        redis_world.check(["a"], ["a"] if name in ("done", "failed") else [])
        redis_world.cli("DEL", redis_world.key("unique:token"))


class TestTake:
    async def moved(self, world: World, lock: Lock = LOCK) -> None:
        await world.push(outgoing("a", in_s=500.0))
        session = await world.process()
        [entry] = await session.census.page("schedule", 0, 1)
        move = Transfer(entry.raw, "queue", entry.raw, "q", "a", (TakeLock(lock, "a"),))
        assert await session.census.transfer("schedule", [move]) == [True]
        assert await session.census.transfer("schedule", [move]) == [False]

    async def test_a_free_one(self, world: World) -> None:
        await self.moved(world)
        assert world.lock("token") == ("a", WHILE)

    async def test_its_own_is_extended_and_never_shortened(self, world: World) -> None:
        for left_s, then_s in ((5.0, 60.0), (1000.0, 1000.0)):
            hold(world, "token", "a", left_s)
            await self.moved(world)
            assert world.lock("token") == ("a", pytest.approx(then_s, abs=4.0))

    async def test_another_jobs_is_left_alone(self, world: World) -> None:
        hold(world, "token", "newer", 30.0)
        await self.moved(world)
        assert world.lock("token") == ("newer", pytest.approx(30.0, abs=5.0))

    @pytest.mark.parametrize("lock", [NOBODYS, Lock("token", 0.0)])
    async def test_one_without_an_owner_or_a_time_is_none(self, world: World, lock: Lock) -> None:
        await self.moved(world, lock)
        assert world.lock(lock.token) is None

    async def test_a_key_of_another_type_stops_nothing(self, redis_world: RedisWorld) -> None:
        redis_world.cli("RPUSH", redis_world.key("unique:token"), "x")
        await self.moved(redis_world)
        assert jids(redis_world.queue("q")) == ["a"]
        redis_world.cli("DEL", redis_world.key("unique:token"))


class TestUnlock:
    async def test_its_owner_frees_it(self, world: World) -> None:
        session, _ = await at_work(world)
        await session.unlock("a", LOCK)
        await session.unlock("a", LOCK)
        assert world.lock("token") is None

    async def test_nobody_else_does(self, world: World) -> None:
        session, _ = await at_work(world)
        await session.unlock("b", LOCK)
        assert world.lock("token") == ("a", WHILE)

    async def test_of_nothing(self, world: World) -> None:
        session = await world.process()
        await session.unlock("a", Lock("none", 60.0))

    @pytest.mark.parametrize("how", HOWS)
    async def test_a_lost_call_frees_no_newer_jobs_lock(self, world: World, how: How) -> None:
        faults = Faults()
        session = await world.process(faults=faults)
        hold(world, "token", "a")
        faults.fail("unlock", how)
        with pytest.raises(StoreUnavailable):
            await session.unlock("a", LOCK)
        await session.unlock("a", LOCK)
        hold(world, "token", "newer")
        await session.unlock("a", LOCK)
        await faults.release()
        assert world.lock("token") == ("newer", pytest.approx(1000.0, abs=5.0))

    async def test_a_key_of_another_type_stays(self, redis_world: RedisWorld) -> None:
        session = await redis_world.process()
        redis_world.cli("RPUSH", redis_world.key("unique:token"), "x")
        await session.unlock("a", LOCK)
        assert redis_world.cli("DEL", redis_world.key("unique:token")) == 1


class TestKiqs:
    """`unique:SHA1` holds a number of ms and names nobody: freed at the end, never extended."""

    @pytest.mark.parametrize("name", ENDS)
    async def test_what_ends_frees_it(self, world: World, name: str) -> None:
        await world.push(outgoing("a"))
        hold(world, KIQS, "60000", 30.0)
        session = await world.process()
        claim = await claimed(session)
        await settle(session, verdicts(claim, "a", NOBODYS)[name])
        assert world.lock(KIQS) is None

    @pytest.mark.parametrize("name", [*PUT_OFF, "release"])
    async def test_what_is_put_off_leaves_it_as_it_is(self, world: World, name: str) -> None:
        await world.push(outgoing("a"))
        hold(world, KIQS, "60000", 30.0)
        session = await world.process()
        claim = await claimed(session)
        await settle(session, verdicts(claim, "a", NOBODYS)[name])
        assert world.lock(KIQS) == ("60000", pytest.approx(30.0, abs=5.0))

    @pytest.mark.parametrize("value", ["somebodys-jid", "0123456789abcdef01234567", "1" * 16])
    async def test_one_that_names_a_job_is_left_alone(self, world: World, value: str) -> None:
        await world.push(outgoing("a"))
        hold(world, KIQS, value)
        session = await world.process()
        claim = await claimed(session)
        await session.unlock("a", NOBODYS)
        await settle(session, Done(claim.delivery, False, (FreeLock(NOBODYS, "a"),)))
        assert world.lock(KIQS) == (value, pytest.approx(1000.0, abs=5.0))

    async def test_a_start_frees_it(self, world: World) -> None:
        session = await world.process()
        hold(world, KIQS, "60000")
        await session.unlock("a", NOBODYS)
        assert world.lock(KIQS) is None


class TestRescue:
    def fields(self, **more: Any) -> dict[str, Any]:
        return {"unique_token": "token", "unique_for": 60, **more}

    async def victim(self, world: World, **fields: Any) -> None:
        """A process claims the job and dies."""
        session = await world.process()
        await claimed(session)
        await world.die(session)

    async def test_the_lock_stays_and_is_held_anew(self, world: World) -> None:
        await world.push(outgoing("a", lock=LOCK, **self.fields()))
        hold(world, "token", "a", 20.0)  # most of its time has passed
        rescuer = await world.process()
        await self.victim(world)
        (rescued,) = await world.rescued(rescuer)
        assert rescued.jid == "a"
        assert world.lock("token") == ("a", WHILE)
        assert await world.push(outgoing("b", lock=LOCK)) == [Pushed("duplicate", "a")]
        claim = await claimed(rescuer)
        await settle(rescuer, Done(claim.delivery, False, (FreeLock(LOCK, "a"),)))
        assert world.lock("token") is None

    async def test_poison_frees_it(self, world: World) -> None:
        """It stayed for as long as `unique_for` said: the dead job kept all others out."""
        await world.push(outgoing("a", lock=LOCK, **self.fields(recovered=POISON_STARTS)))
        rescuer = await world.process()
        await world.let_pass(0.0)
        await self._dies_again(world, rescuer)
        assert world.lock("token") is None

    async def test_poison_frees_kiqs(self, world: World) -> None:
        fields = {"unique_token": KIQS, "unique_for": 60_000, "unlocks_at": world.now() + 60}
        await world.push(outgoing("a", **fields, recovered=POISON_STARTS))
        hold(world, KIQS, "60000")
        await self._dies_again(world, await world.process())
        assert world.lock(KIQS) is None

    async def test_poison_leaves_a_newer_jobs_lock_alone(self, world: World) -> None:
        await world.push(outgoing("a", **self.fields(recovered=POISON_STARTS)))
        hold(world, "token", "newer")
        await self._dies_again(world, await world.process())
        assert holder(world) == "newer"

    async def test_poison_that_only_time_frees(self, world: World) -> None:
        fields = self.fields(unique_until="expiry", recovered=POISON_STARTS)
        await world.push(outgoing("a", lock=LOCK, **fields))
        await self._dies_again(world, await world.process())
        assert holder(world) == "a"

    async def _dies_again(self, world: World, rescuer: Session) -> None:
        """For the last time."""
        (raw,) = world.queue("q")
        if "recovered_at" not in decode(raw).payload:
            self._replace(world, raw)
        await self.victim(world)
        (rescued,) = await world.rescued(rescuer)
        assert rescued.poison
        assert jids(world.members("dead")) == ["a"]

    def _replace(self, world: World, raw: bytes) -> None:
        new = raw[:-1] + f', "recovered_at": {world.now()}}}'.encode()
        if isinstance(world, MemoryWorld):
            world.server.queues["q"][0] = new
        else:
            assert isinstance(world, RedisWorld)
            world.cli("LSET", world.key("queue:q"), 0, new)

    async def test_who_runs_apart_holds_it_until_then(self, world: World) -> None:
        """Jobs that died twice go through the schedule, and must not lose their locks there."""
        await world.push(
            outgoing("a", recovered=1, recovered_at=world.now()),
            outgoing("b", lock=LOCK, recovered=1, recovered_at=world.now(), **self.fields()),
        )
        hold(world, "token", "b", 20.0)
        rescuer = await world.process()
        victim = await world.process()
        await victim.fetch("q", 2)
        await world.die(victim)
        assert len(await world.rescued(rescuer)) == 2
        assert list(world.due_at("schedule")) == ["b"]
        assert world.lock("token") == ("b", pytest.approx(61.0, abs=5.0))

    @pytest.mark.parametrize("how", HOWS)
    async def test_a_lost_rescue_frees_no_newer_jobs_lock(self, world: World, how: How) -> None:
        await world.push(outgoing("a", lock=LOCK, **self.fields(recovered=POISON_STARTS)))
        (raw,) = world.queue("q")
        self._replace(world, raw)
        faults = Faults()
        rescuer = await world.process(faults=faults)
        await self.victim(world)
        faults.fail("rescue", how)
        await world.confirm(rescuer)

        async def swept() -> bool:
            try:
                await rescuer.rescue()
            except StoreUnavailable:
                return False
            return bool(world.members("dead"))

        await world.eventually(swept, world.suspicion_s / 4)
        assert world.lock("token") is None
        hold(world, "token", "newer")
        await faults.release()
        await rescuer.rescue()
        assert world.lock("token") == ("newer", pytest.approx(1000.0, abs=5.0))
        assert jids(world.members("dead")) == ["a"]


class TestTick:
    async def test_a_delayed_tick_is_held_until_it_is_due(self, world: World) -> None:
        calendar = (await world.process()).calendar
        ticks = [Tick(1.0, outgoing("a", lock=LOCK, in_s=500.0))]
        (ticked,) = await calendar.tick("p", ticks, True)
        assert ticked.state == "scheduled"
        assert world.lock("token") == ("a", pytest.approx(560.0, abs=5.0))

    async def test_a_key_of_another_type_uses_up_the_tick(self, redis_world: RedisWorld) -> None:
        redis_world.cli("RPUSH", redis_world.key("unique:token"), "x")
        calendar = (await redis_world.process()).calendar
        (ticked,) = await calendar.tick("p", [Tick(1.0, outgoing("a", lock=LOCK))], True)
        assert (ticked.state, ticked.holder) == ("duplicate", "?")
        redis_world.cli("DEL", redis_world.key("unique:token"))


class TestFullServer:
    async def test_locks_are_freed_on_a_server_that_takes_no_more(
        self, redis_world: RedisWorld
    ) -> None:
        """A retry makes room where the job was; an end makes room altogether."""
        await redis_world.push(outgoing("a", lock=LOCK), outgoing("b", lock=Lock("t", 60.0)))
        session = await redis_world.process()
        a, b = await session.fetch("q", 2)
        redis_world.cli("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises((StoreUnavailable, StoreRefused)):
                await redis_world.push(outgoing("c", lock=Lock("c", 60.0)), source="another")
            await session.unlock("b", Lock("t", 60.0))
            verdict = Retry(a.delivery, a.raw, 500.0, (ExtendLock(LOCK, "a", 500.0),))
            assert await settle(session, verdict, Done(b.delivery)) == [True, True]
        finally:
            redis_world.cli("CONFIG", "SET", "maxmemory", 0)
        assert redis_world.lock("c") is None
        assert redis_world.lock("t") is None
        assert redis_world.lock("token") == ("a", pytest.approx(560.0, abs=5.0))

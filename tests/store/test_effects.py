"""One further effect, added from outside: no script, no store and no stage knows of it.

It counts what becomes of the jobs of a batch, as batches will. Each step that takes a job from
somewhere (settle, rescue, transfer) must count it once, and only if the job was still there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from kiqpy._rules.decide import POISON_STARTS, Rules, decide
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf
from kiqpy.admin import Admin
from kiqpy.errors import StoreRefused, StoreUnavailable
from kiqpy.job import Claim, Job, decode
from kiqpy.outcome import (
    RELEASED,
    Aborted,
    Effects,
    Failure,
    Fate,
    KeyNames,
    Outcome,
    Release,
    Snoozed,
    Success,
)
from kiqpy.store._session import Session
from kiqpy.store.memory.server import MemoryServer
from kiqpy.store.redis import scripts
from tests.conftest import AddEffect
from tests.faults import Faults, How
from tests.store.contract import MemoryWorld, RedisWorld, World, jids, outgoing

pytestmark = pytest.mark.anyio

# -- the whole capability: a value, a rule, its Lua and its function in memory

LUA = """
effects.count_batch = function(keys, args)
  redis.call('HINCRBY', keys[1], args[1], 1)
end
"""


class CountBatch(NamedTuple):
    """Count what became of one job of a batch."""

    batch: str
    what: str

    @property
    def op(self) -> str:
        return "count_batch"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (f"{names.prefix}kiq:batch:{self.batch}",)

    def args(self) -> tuple[str]:
        return (self.what,)


def count(job: Job, fate: Fate, _now: float) -> Effects:
    result = fate.outcome.result if isinstance(fate.outcome, Success) else None
    what = f"{fate.by}:{fate.to}" if result is None else f"result:{result}"
    return (CountBatch(job.payload["bid"], what),)


def count_in_memory(server: MemoryServer, effect: CountBatch) -> None:
    server.stats[f"batch:{effect.batch}:{effect.what}"] += 1


RULES = (*DEFAULT_EFFECTS, EffectsOf("bid", count))


@pytest.fixture(autouse=True)
def registered(add_effect: AddEffect) -> None:
    add_effect("count_batch", LUA, count_in_memory)


# -- what it is tried on


def counted(world: World, batch: str = "B") -> dict[str, int]:
    """What has been counted of the batch."""
    if isinstance(world, MemoryWorld):
        prefix = f"batch:{batch}:"
        found = world.server.stats
        return {name.removeprefix(prefix): found[name] for name in found if prefix in name}
    assert isinstance(world, RedisWorld)
    key = world.key(f"kiq:batch:{batch}")
    flat = world.cli("HGETALL", key) if world.cli("TYPE", key) == "hash" else []
    return {flat[n]: int(flat[n + 1]) for n in range(0, len(flat), 2)}


async def process(world: World, faults: Faults | None = None) -> Session:
    session = await world.process(faults=faults)
    session.effects_of = RULES
    return session


async def claims_of(world: World, session: Session, *names: str, **fields: Any) -> list[Claim]:
    await world.push(*(outgoing(name, bid="B", **fields) for name in names))
    return await session.fetch("q", len(names))


def decided(claim: Claim, outcome: Outcome) -> Any:
    return decide(claim, decode(claim.raw), outcome, Rules(), 1e9, lambda: 0.5, RULES)


OUTCOMES: list[tuple[Outcome, str]] = [
    (Success(), "run:gone"),
    (Success(42), "result:42"),
    (Aborted("expired"), "run:gone"),
    (Failure(ValueError()), "run:retry"),
    (Failure(ValueError(), final=True), "run:dead"),
    (Snoozed(500.0), "run:schedule"),
    (RELEASED, "run:queue"),
]


class TestSettle:
    @pytest.mark.parametrize(("outcome", "what"), OUTCOMES)
    async def test_each_verdict_carries_it(self, world: World, outcome: Outcome, what: str) -> None:
        session = await process(world)
        claims = await claims_of(world, session, "a", "b")
        frame = session.frame("q", [decided(claim, outcome) for claim in claims])
        assert await session.settle(frame) == [True, True]
        assert counted(world) == {what: 2}

    async def test_beside_jobs_without_it(self, world: World) -> None:
        """Verdicts with and without effects, of several kinds and with locks, in one frame."""
        session = await process(world)
        held: dict[str, Any] = {"unique_token": "T", "unique_for": 60}
        await world.push(outgoing("a"), outgoing("b", bid="B"), outgoing("c", bid="C", **held))
        await world.push(outgoing("d", **held), outgoing("e", bid="B"))
        claims = await session.fetch("q", 5)
        outcomes = [Success(), Failure(ValueError()), Snoozed(5.0), Success(), Success()]
        frame = session.frame("q", [*map(decided, claims, outcomes)])
        assert await session.settle(frame) == [True] * 5
        assert counted(world) == {"run:retry": 1, "run:gone": 1}
        assert counted(world, "C") == {"run:schedule": 1}
        assert jids(world.members("retry")) == ["b"]
        assert jids(world.members("schedule")) == ["c"]

    @pytest.mark.parametrize("how", ["before", "after", "late"])
    async def test_a_repeated_frame_counts_once(self, world: World, how: How) -> None:
        faults = Faults()
        session = await process(world, faults)
        claims = await claims_of(world, session, "a", "b")
        frame = session.frame("q", [decided(claim, Success()) for claim in claims])
        faults.fail("settle", how)
        with pytest.raises(StoreUnavailable):
            await session.settle(frame)
        assert await session.settle(frame) == [True, True]
        await faults.release()
        assert counted(world) == {"run:gone": 2}

    async def test_a_fenced_claim_is_not_counted(self, world: World) -> None:
        session = await process(world)
        a, b = await claims_of(world, session, "a", "b")
        await session.settle(session.frame("q", [Release(a.delivery)]))
        frame = session.frame("q", [decided(claim, Success()) for claim in (a, b)])
        assert await session.settle(frame) == [False, True]
        assert counted(world) == {"run:gone": 1}

    async def test_one_that_can_not_be_done_is_left_out(self, world: World) -> None:
        """Its job is settled, and so are the others of the frame: once."""
        if not isinstance(world, RedisWorld):
            pytest.skip("there are no keys of a wrong type in memory")
        session = await process(world)
        claims = await claims_of(world, session, "a", "b")
        world.cli("SET", world.key("kiq:batch:B"), "x")
        verdicts = [decided(claim, Failure(ValueError())) for claim in claims]
        assert await session.settle(session.frame("q", verdicts)) == [True, True]
        assert sorted(jids(world.members("retry"))) == ["a", "b"]
        assert not world.private(session)
        world.cli("DEL", world.key("kiq:batch:B"))

    async def test_one_that_no_script_knows_is_refused_before_it_is_sent(
        self, world: World
    ) -> None:
        if not isinstance(world, RedisWorld):
            pytest.skip("in memory it is a KeyError")
        session = await process(world)
        [claim] = await claims_of(world, session, "a")
        del scripts._effects()["count_batch"]
        with pytest.raises(StoreRefused, match="count_batch"):
            await session.settle(session.frame("q", [decided(claim, Success())]))
        assert len(world.private(session)) == 1


class TestRescue:
    async def rescued(self, world: World, faults: Faults | None = None, **fields: Any) -> None:
        rescuer = await process(world, faults)
        victim = await process(world)
        await claims_of(world, victim, "a", "b", **fields)
        await world.die(victim)

        async def swept() -> bool:
            try:
                await rescuer.rescue()
            except StoreUnavailable:
                return False
            return not world.private(victim)

        await world.eventually(swept, world.suspicion_s / 4)

    async def test_what_goes_back(self, world: World) -> None:
        await self.rescued(world)
        assert counted(world) == {"rescue:queue": 2}

    async def test_what_runs_apart(self, world: World) -> None:
        await self.rescued(world, recovered=1, recovered_at=world.now())
        assert counted(world) == {"rescue:queue": 1, "rescue:schedule": 1}

    async def test_poison(self, world: World) -> None:
        await self.rescued(world, recovered=POISON_STARTS, recovered_at=world.now())
        assert counted(world) == {"rescue:dead": 2}

    @pytest.mark.parametrize("how", ["before", "after", "late"])
    async def test_a_lost_reply_counts_once(self, world: World, how: How) -> None:
        faults = Faults()
        faults.fail("rescue", how)
        await self.rescued(world, faults)
        await faults.release()
        assert counted(world) == {"rescue:queue": 2}


class TestTransfer:
    async def admin(self, world: World) -> Admin:
        return Admin((await process(world)).census, world.clock, ("q",), RULES)

    async def test_what_an_operator_does(self, world: World) -> None:
        admin = await self.admin(world)
        in_an_hour: dict[str, Any] = {"bid": "B", "in_s": 3600.0}
        await world.push(*(outgoing(name, **in_an_hour) for name in "abcd"))
        await admin.requeue("a", "scheduled")
        await admin.kill(["b", "c"], "scheduled")
        await admin.delete(["d", "c"])
        assert counted(world) == {"operator:queue": 1, "operator:dead": 2, "operator:gone": 2}

    async def test_in_a_queue(self, world: World) -> None:
        admin = await self.admin(world)
        await world.push(outgoing("a", bid="B"), outgoing("b"), outgoing("c", bid="C"))
        assert (await admin.delete_all("queue:q")).done == 3
        assert counted(world) == counted(world, "C") == {"operator:gone": 1}

    async def test_two_operators_count_once(self, world: World) -> None:
        admin = await self.admin(world)
        await world.push(outgoing("a", bid="B", in_s=3600.0))
        page = await admin.jobs("scheduled")
        assert (await admin.kill(page.rows)).done == 1
        assert (await admin.kill(page.rows)).gone == 1
        assert counted(world) == {"operator:dead": 1}


def test_a_job_that_uses_nothing_has_no_effects() -> None:
    claim = Claim("q", 1, b'{"class":"A","args":[]}')
    assert decided(claim, Success(42)).effects == ()

"""The journal of a local queue, whose calls of the store are lost before, after, or come late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kiqpy._extensions.local.journal import Journal, JournalSettings
from kiqpy.errors import StoreError, StoreUnavailable
from kiqpy.job import Claim, LiveArguments
from kiqpy.outcome import Bury, Done, Lock, Release, Retry, Verdict
from kiqpy.store import Pushed
from kiqpy.store._session import Session
from kiqpy.testing import FakeClock
from tests.faults import Faults, How
from tests.store.contract import MemoryWorld, jids, outgoing, payload

pytestmark = pytest.mark.anyio
HOWS: list[How] = ["before", "after", "late"]
LINGER_S = 0.01
OUTAGE_S = 20.0  # longer than the pauses between some tries


class Local:
    """A journal over one process of a world, and what it has told."""

    def __init__(self, world: MemoryWorld, session: Session, faults: Faults, limit: int) -> None:
        self.world = world
        self.session = session
        self.faults = faults
        self.fences = 0
        self.errors: list[StoreError] = []
        self.kept: list[Pushed] = []
        self.journal = Journal(
            store=session,
            queue="q",
            clock=world.clock,
            settings=JournalSettings(LINGER_S, limit),
            on_fenced=self._fenced,
            on_error=self.errors.append,
        )

    def _fenced(self) -> None:
        self.fences += 1

    @property
    def clock(self) -> FakeClock:
        return self.world.clock

    def accept(self, jid: str, *, write: bool = True, lock: Lock | None = None) -> Claim:
        return self.journal.accept(outgoing(jid, lock=lock), write=write)

    def at_once(self, jid: str, lock: Lock | None = None) -> Claim:
        job = outgoing(jid, lock=lock)
        return self.journal.accept(job, write=True, on_kept=self.kept.append)

    async def settle(self, *verdicts: Verdict) -> list[bool]:
        return await self.journal.settle(self.journal.frame("q", verdicts))

    async def pass_(self, seconds: float = OUTAGE_S) -> None:
        await self.clock.advance(seconds)
        self.world.beat(self.session, "q", lease_s=1000)

    def held(self) -> list[str]:
        return jids(self.world.private(self.session).values())


Make = Callable[..., Awaitable[Local]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    world = MemoryWorld()

    async def local(limit: int = 1000) -> Local:
        faults = Faults()
        session = await world.process("q", faults=faults, lease_s=1000)
        return Local(world, session, faults, limit)

    yield local
    await world.close()


@pytest.fixture
async def local(make: Make) -> Local:
    return await make()


def retry(claim: Claim, jid: str) -> Retry:
    return Retry(claim.delivery, payload(jid, retry_count=0), 1000.0)


async def test_what_ends_well_before_it_is_written_is_never_written(local: Local) -> None:
    claim = local.accept("a")
    assert await local.settle(Done(claim.delivery)) == [True]
    await local.pass_(LINGER_S)
    assert local.world.stat("processed") == 1
    assert local.faults.calls["settle"] == 0
    local.world.check(["a"], done=["a"])


async def test_no_arguments_are_kept_of_what_never_began(local: Local) -> None:
    """It had expired, or was cancelled, before anybody asked for them."""
    live = LiveArguments((1,), {}, [1], "alongside")
    job = outgoing("a")._replace(live=live)
    claim, other = (local.journal.accept(job, write=False) for _ in range(2))
    assert await local.settle(Done(claim.delivery)) == [True]
    assert local.journal.live(claim) is None
    assert local.journal.live(other) is live
    assert local.journal.live(other) is None


async def test_a_backup_waits_for_others(local: Local) -> None:
    for n in range(5):
        local.accept(f"j{n}")
    assert local.held() == []
    await local.pass_(LINGER_S)
    assert len(local.held()) == 5
    assert local.faults.calls["keep"] == 1


async def test_one_that_is_waited_for_does_not_wait(local: Local) -> None:
    local.at_once("a")
    await local.pass_(0)
    assert local.kept == [Pushed("queued")]


async def test_a_duplicate_is_gone(local: Local) -> None:
    lock = Lock("token", 60)
    local.at_once("a", lock)
    local.at_once("b", lock)
    await local.pass_(0)
    assert local.kept == [Pushed("queued"), Pushed("duplicate", "a")]
    assert local.journal.size() == 0
    local.world.check(["a"])


@pytest.mark.parametrize("how", HOWS)
async def test_a_lost_backup_is_sent_again(local: Local, how: How) -> None:
    local.faults.fail("keep", how, times=3)
    claim = local.at_once("a")
    await local.pass_(0)
    assert not local.journal.is_only_here(claim.delivery), "it is in doubt"
    await local.pass_()
    assert local.kept == [Pushed("queued")]
    assert await local.settle(Done(claim.delivery)) == [True]
    await local.faults.release()
    local.world.check(["a"], done=["a"])


@pytest.mark.parametrize("how", HOWS)
async def test_what_ends_while_its_backup_is_in_doubt_is_settled(local: Local, how: How) -> None:
    local.faults.fail("keep", how, times=2)
    claim = local.accept("a")
    await local.clock.advance(LINGER_S)
    assert await local.settle(Done(claim.delivery)) == [True]
    await local.pass_()
    await local.faults.release()
    assert local.fences == 0
    assert local.world.stat("processed") == 1
    local.world.check(["a"], done=["a"])


@pytest.mark.parametrize("verb", ["keep", "settle"])
@pytest.mark.parametrize("how", HOWS)
async def test_what_fails_is_written_first_then_settled(local: Local, verb: str, how: How) -> None:
    claim = local.accept("a", write=False)
    local.faults.fail(verb, how, times=3)
    assert await local.settle(retry(claim, "a")) == [True]
    await local.pass_()
    await local.faults.release()
    assert local.world.due_at("retry").keys() == {"a"}
    assert (local.fences, local.world.stat("failed")) == (0, 1)
    local.world.check(["a"])


async def test_while_the_store_is_away_jobs_go_on(local: Local) -> None:
    """Good ends cost nothing, the others are owed and carried out in their order."""
    known = local.at_once("known")
    await local.pass_(0)
    local.faults.fail("keep", "before", times=50)
    local.faults.fail("settle", "before", times=50)
    assert await local.settle(Done(known.delivery)) == [True]
    for n in range(100):
        claim = local.accept(f"j{n}")
        verdict = retry(claim, f"j{n}") if n % 10 == 0 else Done(claim.delivery)
        assert await local.settle(verdict) == [True]
    local.faults.heal()
    await local.pass_()
    assert len(local.world.due_at("retry")) == 10
    assert local.world.stat("processed") == 101
    good = {"known", *(f"j{n}" for n in range(100) if n % 10)}
    local.world.check([*good, *(f"j{n}" for n in range(0, 100, 10))], done=good)
    assert local.fences == 0


async def test_so_much_is_owed_and_no_more(make: Make) -> None:
    local = await make(limit=2)
    local.faults.fail("keep", "before", times=50)
    claims = [local.accept(f"j{n}") for n in range(3)]
    for n, claim in enumerate(claims[:2]):
        assert await local.settle(retry(claim, f"j{n}")) == [True]
    frame = local.journal.frame("q", [retry(claims[2], "j2")])
    with pytest.raises(StoreUnavailable, match="2 verdicts wait"):
        await local.journal.settle(frame)
    local.faults.heal()
    await local.pass_()
    assert await local.journal.settle(frame) == [True]
    assert local.world.due_at("retry").keys() == {"j0", "j1", "j2"}


async def test_a_fence_that_shows_up_later_is_told(local: Local) -> None:
    claim = local.at_once("a")
    await local.pass_(0)
    local.faults.fail("settle", "before", times=3)
    assert await local.settle(Bury(claim.delivery, payload("a"))) == [True]
    local.world.server.privates.clear()  # it was rescued meanwhile
    await local.pass_()
    assert local.fences == 1
    assert local.world.members("dead") == {}


async def test_after_a_lapse_it_asks_what_is_still_there(local: Local) -> None:
    one, two = local.at_once("a"), local.at_once("b")
    await local.pass_(0)
    assert local.journal.trusted()
    assert await local.journal.rescued() is None
    local.world.beat(local.session, "q", lease_s=5)
    await local.clock.advance(60)
    assert not local.journal.trusted()
    del local.world.server.privates[local.session.ident, "q"][one.delivery]
    local.world.beat(local.session, "q")
    assert not local.journal.trusted(), "it has the lease again, and may have lost claims"
    assert await local.journal.rescued() == {two.delivery}
    assert local.journal.trusted()


async def test_what_is_held_at_the_end_is_all_there_is(local: Local) -> None:
    local.accept("a")
    local.accept("b", write=False)
    failed = local.accept("c", write=False)
    local.faults.fail("keep", "before")
    assert await local.settle(retry(failed, "c")) == [True]
    claims = await local.journal.holding("q")
    assert sorted(jids(claims)) == ["a", "b"]
    assert local.world.due_at("retry").keys() == {"c"}
    assert await local.settle(*(Release(claim.delivery) for claim in claims)) == [True, True]
    local.world.check(["a", "b", "c"])


async def test_what_is_not_on_record_is_surrendered(local: Local) -> None:
    local.faults.fail("keep", "before", times=50)
    local.accept("a")
    local.accept("b", write=False)
    failed, done = local.accept("c"), local.accept("d")
    await local.clock.advance(LINGER_S)  # a, c and d are in doubt
    await local.settle(retry(failed, "c"))
    await local.settle(Done(done.delivery))
    found = local.journal.surrender()
    assert [(job.jid, job.in_s) for job in found] == [("a", None), ("b", None), ("c", 1000.0)]
    assert local.journal.size() == 0


async def test_after_that_nothing_is_sent(local: Local) -> None:
    """Not by a timer either, that was set before."""
    claim = local.accept("a")
    await local.settle(Done(claim.delivery))
    local.journal.surrender()
    local.faults.fail("keep", "before", times=50)
    await local.pass_()
    assert local.faults.calls["keep"] == 0


async def test_a_flush_returns_when_nothing_is_to_be_written(local: Local) -> None:
    local.faults.fail("keep", "before", times=2)
    local.accept("a")
    local.accept("b", write=False)
    flushing: asyncio.Task[Any] = asyncio.create_task(local.journal.flush())
    await local.pass_()
    await flushing
    assert local.held() == ["a"]

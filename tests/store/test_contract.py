"""What every store must do, verb by verb, on each backend.

Each fault that was found in an early design of the protocol has a test here. What concerns the
client (a new nonce for each start and fork) is tested with the client, and what concerns the
heartbeat (its count of claims, its reaction to abandoned waits) with the pipeline.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from kiqpy._rules.decide import Rules, decide
from kiqpy._rules.portable import unsealed
from kiqpy.errors import FetchPaused, LeaseLost, StoreRefused, StoreUnavailable
from kiqpy.job import Claim, decode
from kiqpy.outcome import Bury, Defer, Done, Failure, Lock, Release, Retry, Verdict
from kiqpy.store import Frame, FrameWithdrawn, Pushed, VerdictsRefused
from kiqpy.store._backend import Orphan, Suspect
from kiqpy.store._session import Session
from tests.faults import Faults, How
from tests.server import TestServer
from tests.store.contract import (
    DisturbedWorld,
    MemoryWorld,
    RedisWorld,
    World,
    frees,
    holds,
    jids,
    job_of,
    outgoing,
    payload,
)

pytestmark = pytest.mark.anyio
T = TypeVar("T")

ODD_QUEUES = ["a-b", "a_b", "a:b", "a.b", "queue", "schedule", "A1"]
HARD_ARGS = (
    "[12345678901234567890, 123456789012345678901234567890,  1.0, 1e3, "
    '"jid", "queue", {"jid": "x",  "queue": "y", "args": [ ]}, "\\u00e9\\"}"]'
)
REDIS_SERVER = shutil.which("redis-server")
HOWS: list[How] = ["before", "after", "late"]


@pytest.fixture(scope="session")
def server_on_path() -> Iterator[TestServer]:
    assert REDIS_SERVER is not None
    with TestServer(REDIS_SERVER) as running:
        yield running


RUDE = {
    "scripts forgotten": ("SCRIPT", "FLUSH"),
    "clients killed": ("CLIENT", "KILL", "TYPE", "normal"),
}


@pytest.fixture(params=["memory", "valkey", *RUDE, *(["redis-server"] if REDIS_SERVER else [])])
async def world(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    elif request.param == "valkey":
        made = RedisWorld(request.getfixturevalue("clean"))
    elif request.param in RUDE:
        made = DisturbedWorld(request.getfixturevalue("clean"), *RUDE[request.param])
    else:
        server: TestServer = request.getfixturevalue("server_on_path")
        server.cli("FLUSHALL")
        made = RedisWorld(server)
    yield made
    await made.close()


@pytest.fixture
def redis_world(world: World) -> RedisWorld:
    if not isinstance(world, RedisWorld):
        pytest.skip("there are no keys of a wrong type, and no keys, in memory")
    return world


async def settle(session: Session, *verdicts: Verdict, queue: str = "q") -> list[bool]:
    return await session.settle(session.frame(queue, verdicts))


@pytest.mark.skipif(REDIS_SERVER is not None, reason="redis-server is on PATH: it is tested")
def test_on_redis_too() -> None:
    pytest.skip("no redis-server on PATH: the suite runs in memory and on Valkey only")


class TestPush:
    async def test_the_oldest_is_next(self, world: World) -> None:
        names = await world.fill(5)
        assert jids(world.queue("q")) == names

    async def test_payloads_stay_byte_for_byte(self, world: World) -> None:
        raw = payload("a", args=HARD_ARGS, note='"jid": "z"')
        await world.push(outgoing("a", args=HARD_ARGS, note='"jid": "z"'))
        assert world.queue("q") == [raw]

    @pytest.mark.parametrize("queue", ODD_QUEUES)
    async def test_odd_queue_names_are_kept_apart(self, world: World, queue: str) -> None:
        await world.push(*(outgoing(f"of {name}", name) for name in ODD_QUEUES))
        session = await world.process(*ODD_QUEUES)
        claims = await session.fetch(queue, 10)
        assert [claim.queue for claim in claims] == [queue]
        assert jids(claims) == [f"of {queue}"]
        assert await settle(session, Done(claims[0].delivery), queue=queue) == [True]
        world.check([f"of {name}" for name in ODD_QUEUES], done=[f"of {queue}"])

    async def test_one_result_each_in_their_order(self, world: World) -> None:
        lock = Lock("token", 60.0)
        results = await world.push(
            outgoing("a", lock=lock),
            outgoing("b", in_s=9.0),
            outgoing("c", lock=lock),
            outgoing("d"),
        )
        states = ["queued", "scheduled", "duplicate", "queued"]
        assert [result.state for result in results] == states
        assert results[2].detail == "a"

    async def test_many_at_once(self, world: World) -> None:
        names = await world.fill(1000)
        assert jids(world.queue("q")) == names

    async def test_an_empty_frame(self, world: World) -> None:
        assert await world.push() == []

    async def test_a_delay_has_been_running_since_the_frame_was_made(self, world: World) -> None:
        session = await world.process()
        frame = world.frame(outgoing("a", in_s=100.0))._replace(
            made_at=world.clock.monotonic() - 60.0
        )
        await session.push(frame)
        assert world.due_at("schedule")["a"] == pytest.approx(world.now() + 40.0, abs=2.0)

    async def test_an_instant_is_kept(self, world: World) -> None:
        assert await world.push(outgoing("a", at_s=4102444800.5)) == [Pushed("scheduled")]
        assert world.due_at("schedule") == {"a": 4102444800.5}

    async def test_hole_01_sequence_reuse(self, world: World) -> None:
        """A lower sequence is a loud error, not a silent success; another nonce starts afresh."""
        session = await world.process()
        for jid in ("a", "b"):
            await session.push(world.frame(outgoing(jid)))
        with pytest.raises(StoreRefused, match=r"(?i)sequence"):
            await session.push(Frame("client", 1, [outgoing("c")]))
        assert await session.push(Frame("another", 1, [outgoing("d")])) == [Pushed("queued")]
        world.check(["a", "b", "d"])

    async def test_hole_02_partial_push(self, redis_world: RedisWorld) -> None:
        """What can't be stored is told one by one, and sending again adds nothing."""
        redis_world.cli("SET", "queue:broken", "x")
        session = await redis_world.process()
        frame = redis_world.frame(outgoing("a"), outgoing("b", "broken"), outgoing("c", in_s=60.0))
        first = await session.push(frame)
        assert [result.state for result in first] == ["queued", "refused", "scheduled"]
        assert "broken" in first[1].detail
        assert await session.push(frame) == await session.push(frame) == first
        redis_world.check(["a", "c"])

    async def test_all_or_none(self, redis_world: RedisWorld) -> None:
        redis_world.cli("SET", "queue:broken", "x")
        session = await redis_world.process()
        lock = Lock("token", 60.0)
        frame = redis_world.frame(
            outgoing("a", lock=lock), outgoing("b", "broken"), outgoing("c", in_s=9.0), atomic=True
        )
        for _ in range(2):
            assert {result.state for result in await session.push(frame)} == {"refused"}
        redis_world.check([])
        assert redis_world.lock("token") is None

    async def test_a_wrong_schedule_does_not_stop_what_is_due_now(
        self, redis_world: RedisWorld
    ) -> None:
        redis_world.cli("SET", "schedule", "x")
        results = await redis_world.push(outgoing("a", in_s=1.0), outgoing("b"))
        assert [result.state for result in results] == ["refused", "queued"]

    async def test_a_lock_conflict_is_a_result_even_in_an_atomic_frame(self, world: World) -> None:
        lock = Lock("token", 60.0)
        await world.push(outgoing("a", lock=lock))
        session = await world.process()
        frame = world.frame(outgoing("b", lock=lock), outgoing("c"), atomic=True)
        assert await session.push(frame) == [Pushed("duplicate", "a"), Pushed("queued")]
        world.check(["a", "c"])

    async def test_hole_03_results_lost_with_the_reply(self, world: World) -> None:
        faults, lock = Faults(), Lock("token", 60.0)
        await world.push(outgoing("a", lock=lock))
        session = await world.process(faults=faults)
        frame = world.frame(outgoing("b", lock=lock), outgoing("c"), outgoing("d", in_s=9.0))
        faults.fail("push", "after")
        with pytest.raises(StoreUnavailable):
            await session.push(frame)
        expected = [Pushed("duplicate", "a"), Pushed("queued"), Pushed("scheduled")]
        assert await session.push(frame) == await session.push(frame) == expected
        world.check(["a", "c", "d"])

    async def test_hole_04_guard_ttl(self, redis_world: RedisWorld) -> None:
        """The note of a frame lives 30 days; a flushed server takes up any sequence."""
        await redis_world.push(outgoing("a"))
        assert redis_world.cli("PTTL", "kiq:push:client") > 29.9 * 86_400_000
        redis_world.cli("FLUSHALL")
        assert await redis_world.push(outgoing("b")) == [Pushed("queued")]

    async def test_a_late_frame_is_refused(self, world: World) -> None:
        faults = Faults()
        session = await world.process(faults=faults)
        first, second = world.frame(outgoing("a")), world.frame(outgoing("b"))
        faults.fail("push", "late")
        with pytest.raises(StoreUnavailable):
            await session.push(first)
        await session.push(first)
        await session.push(second)
        await faults.release()
        assert [type(error) for error in faults.late_errors] == [StoreRefused]
        world.check(["a", "b"])

    async def test_a_withdrawn_frame_is_never_stored_however_late_it_comes(
        self, world: World
    ) -> None:
        session = await world.process(beat=False)
        lost, later = world.frame(outgoing("a"), outgoing("b")), world.frame(outgoing("a"))
        assert await again(lambda: session.withdraw(lost)) is None
        assert await again(lambda: session.withdraw(lost)) is None
        with pytest.raises(FrameWithdrawn):
            await again(lambda: session.push(lost))
        assert await again(lambda: session.push(later)) == [Pushed("queued")]
        with pytest.raises(StoreRefused):
            await again(lambda: session.push(lost))
        with pytest.raises(StoreRefused):
            await again(lambda: session.withdraw(lost))
        assert jids(world.queue("q")) == ["a"]

    async def test_a_stored_frame_is_not_withdrawn_but_answered(self, world: World) -> None:
        session = await world.process(beat=False)
        lock = Lock("token", 60.0)
        await world.push(outgoing("owner", lock=lock), source="other")
        frame = world.frame(outgoing("a"), outgoing("b", lock=lock), outgoing("c", at_s=9e9))
        stored = await again(lambda: session.push(frame))
        assert await again(lambda: session.withdraw(frame)) == stored
        assert stored == [Pushed("queued"), Pushed("duplicate", "owner"), Pushed("scheduled")]
        assert jids(world.queue("q")) == ["owner", "a"]

    async def test_a_job_that_is_there_is_not_stored_again(self, world: World) -> None:
        """A frame that is sent again is answered from its notes; whoever else sends it is late."""
        lock = Lock("token", 60.0)
        await world.push(outgoing("a", lock=lock))
        again = await world.push(outgoing("a", lock=lock), source="spool")
        assert again == [Pushed("duplicate", "a")]

    async def test_a_lock_runs_out(self, world: World) -> None:
        await world.push(outgoing("a", lock=Lock("token", 0.05)))
        await world.eventually(lambda: world.lock("token") is None, 0.02)
        assert await world.push(outgoing("b", lock=Lock("token", 60.0))) == [Pushed("queued")]
        holder = world.lock("token")
        assert holder
        assert holder[0] == "b"
        assert 55.0 < holder[1] <= 60.0


class TestWait:
    async def test_returns_at_once_for_a_job_that_is_there(self, world: World) -> None:
        names = await world.fill(2)
        session = await world.process()
        await session.wait("q", 5.0)
        assert jids(world.inbox(session)) == names[:1]
        assert jids(await session.fetch("q", 5)) == names

    async def test_returns_when_a_job_arrives(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        await world.push(outgoing("a"))
        await waiting
        assert jids(await session.fetch("q", 1)) == ["a"]

    async def test_returns_at_its_timeout(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 0.05))
        await world.eventually(waiting.done)
        await waiting
        await world.push(outgoing("a"))
        assert jids(world.queue("q")) == ["a"]

    async def test_unwait_ends_it(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        await session.unwait("q")
        await waiting
        await world.push(outgoing("a"))
        assert jids(world.queue("q")) == ["a"]

    async def test_unwait_gives_back_what_came(self, world: World) -> None:
        names = await world.fill(3)
        session = await world.process()
        await session.wait("q", 5.0)
        await session.unwait("q")
        assert jids(world.queue("q")) == names
        await session.unwait("q")
        assert jids(world.queue("q")) == names

    async def test_unwait_leaves_other_waits_alone(self, world: World) -> None:
        one = await world.process("q", "other")
        two = await world.process()
        waits = [
            asyncio.create_task(one.wait("q", 20.0)),
            asyncio.create_task(one.wait("other", 20.0)),
            asyncio.create_task(two.wait("q", 20.0)),
        ]
        await world.blocked(3)
        await one.unwait("q")
        await waits[0]
        await world.push(outgoing("a"), outgoing("b", "other"))
        await asyncio.gather(*waits)
        assert jids(await two.fetch("q", 1)) == ["a"]
        assert jids(await one.fetch("other", 1)) == ["b"]

    async def test_cancelled_it_loses_nothing(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await world.push(outgoing("a"))
        world.check(["a"])
        assert jids(await session.fetch("q", 1)) == ["a"]

    async def test_cancelled_as_the_job_arrives_it_loses_nothing(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        await world.push(outgoing("a"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert jids(await session.fetch("q", 1)) == ["a"]
        world.check(["a"])

    async def test_who_waits_longest_is_served_first(self, world: World) -> None:
        sessions = [await world.process() for _ in range(3)]
        waits: list[asyncio.Task[None]] = []
        for n, session in enumerate(sessions, 1):
            waits.append(asyncio.create_task(session.wait("q", 20.0)))
            await world.blocked(n)
        for n, waiting in enumerate(waits):
            await world.push(outgoing(f"j{n}"))
            await waiting
            assert [task.done() for task in waits] == [m <= n for m in range(3)]
        assert [jids(world.inbox(session)) for session in sessions] == [["j0"], ["j1"], ["j2"]]

    async def test_hole_07_no_wait_without_a_trusted_lease(self, world: World) -> None:
        await world.fill(1)
        session = await world.process(beat=False)
        with pytest.raises(LeaseLost):
            await session.wait("q", 1.0)
        world.beat(session)
        await session.leave()
        with pytest.raises(LeaseLost):
            await session.wait("q", 1.0)
        assert jids(world.queue("q")) == ["j0000"]

    async def test_hole_07_no_wait_outlasts_its_lease(self, world: World) -> None:
        session = await world.process(lease_s=0.2)
        waiting = asyncio.create_task(session.wait("q", 1000.0))
        await world.eventually(waiting.done)
        assert not session.trusted()

    async def test_hole_08_two_jobs_in_an_inbox(self, world: World) -> None:
        names = await world.fill(3)
        session = await world.process()
        world.late_wait(session.ident, "q")
        world.late_wait(session.ident, "q")
        assert world.beat(session).inbox == {"q": 2}
        assert jids(await session.fetch("q", 1)) == names[:1]
        assert jids(world.queue("q")) == names[1:]
        assert world.inbox(session) == []

    @pytest.mark.parametrize("how", ["unwait", "fetch", "pause", "rescue"])
    async def test_hole_08_both_go_back_in_their_order(self, world: World, how: str) -> None:
        names = await world.fill(4)
        session, other = await world.process(), await world.process()
        world.late_wait(session.ident, "q")
        world.late_wait(session.ident, "q")
        if how == "unwait":
            await session.unwait("q")
        elif how == "fetch":
            await session.fetch("q", 0)
        elif how == "pause":
            world.pause("q")
            with pytest.raises(FetchPaused):
                await session.fetch("q", 1)
        else:
            await world.die(session)

            async def swept() -> bool:
                await other.rescue()
                return not world.inbox(session)

            await world.eventually(swept, world.suspicion_s / 4)
        assert jids(world.queue("q")) == names

    async def test_hole_08_a_fetch_of_none_returns_the_inbox(self, world: World) -> None:
        names = await world.fill(2)
        session = await world.process()
        await session.wait("q", 1.0)
        assert await session.fetch("q", 0) == []
        assert jids(world.queue("q")) == names
        assert world.inbox(session) == []


class TestFetch:
    async def test_large_jobs_come_in_smaller_pages(self, redis_world: RedisWorld) -> None:
        """A page of 250 at a megabyte each would not arrive within a command's time, ever."""
        raws = [b'{"class":"c","args":["%s"],"jid":"j%d"}' % (b"x" * 2**20, n) for n in range(20)]
        raws.insert(0, b'{"class":"c","args":["%s"],"jid":"huge"}' % (b"x" * 9 * 2**20))
        for raw in raws:
            redis_world.cli("LPUSH", redis_world.key("queue:q"), raw)
        session = await redis_world.process()
        pages: list[list[Claim]] = []
        while page := await session.fetch("q", 250):
            pages.append(page)
        assert [claim.raw for page in pages for claim in page] == raws
        assert [len(page) for page in pages] == [1, 7, 7, 6]

    async def test_oldest_first_under_ids_that_only_grow(self, world: World) -> None:
        names = await world.fill(7)
        session = await world.process()
        claims: list[Claim] = []
        while batch := await session.fetch("q", 3):
            claims += batch
        assert jids(claims) == names
        ids = [claim.delivery for claim in claims]
        assert ids == sorted(set(ids))
        assert world.private(session) == {claim.delivery: claim.raw for claim in claims}

    async def test_an_empty_queue(self, world: World) -> None:
        session = await world.process()
        assert await session.fetch("q", 10) == []

    async def test_no_job_goes_to_two_processes(self, world: World) -> None:
        names = await world.fill(40)
        sessions = [await world.process() for _ in range(4)]
        got = await asyncio.gather(*(s.fetch("q", 7) for s in sessions))
        got += await asyncio.gather(*(s.fetch("q", 7) for s in sessions))
        assert sorted(jid for batch in got for jid in jids(batch)) == names
        world.check(names)

    async def test_without_a_lease_nothing_moves(self, world: World) -> None:
        names = await world.fill(2)
        session = await world.process()
        await world.die(session)
        with pytest.raises(LeaseLost):
            await session.fetch("q", 2)
        assert jids(world.queue("q")) == names
        world.beat(session)
        assert jids(await session.fetch("q", 2)) == names

    async def test_a_lease_runs_out(self, world: World) -> None:
        session = await world.process(lease_s=0.05)

        async def lost() -> bool:
            with pytest.raises(LeaseLost):
                await session.fetch("q", 1)
            return True

        await world.let_pass(0.06)
        assert await lost()

    async def test_a_paused_queue_takes_the_inbox_back(self, world: World) -> None:
        names = await world.fill(3)
        session = await world.process()
        await session.wait("q", 1.0)
        world.pause("q")
        with pytest.raises(FetchPaused):
            await session.fetch("q", 2)
        assert jids(world.queue("q")) == names
        assert world.inbox(session) == []

    async def test_hole_05_late_fetch(self, world: World) -> None:
        """A fetch that arrives after its recovery is refused: nothing is stranded."""
        names, faults = await world.fill(4), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "late")
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 2)
        first = await session.fetch("q", 2)
        await faults.release()
        assert [type(error) for error in faults.late_errors] == [StoreRefused]
        assert jids(first + await session.fetch("q", 2)) == names
        assert world.beat(session).held == {"q": 4}

    async def test_a_fetch_whose_reply_was_lost_is_found_again(self, world: World) -> None:
        names, faults = await world.fill(3), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "after")
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 2)
        again = await session.fetch("q", 2)
        assert jids(again) == names[:2]
        assert await settle(session, *(Done(claim.delivery) for claim in again)) == [True, True]
        assert jids(await session.fetch("q", 2)) == names[2:]

    async def test_a_lost_fetch_of_thousands_is_found_again(self, world: World) -> None:
        """More than some 8,000 ids were too many for one call in Lua: the queue stood still."""
        names, faults = await world.fill(3), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "after")
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 20_000)
        assert jids(await session.fetch("q", 20_000)) == names

    @pytest.mark.parametrize("how", HOWS)
    async def test_a_lost_recovery_is_asked_again(self, world: World, how: How) -> None:
        names, faults = await world.fill(3), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "after")
        faults.fail("recover", how)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await session.fetch("q", 2)
        claims = await session.fetch("q", 2)
        await faults.release()
        assert jids(claims + await session.fetch("q", 2)) == names
        world.check(names)

    async def test_a_late_recovery_does_not_lower_the_floor(self, world: World) -> None:
        names, faults = await world.fill(4), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "before")
        faults.fail("recover", "late")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await session.fetch("q", 2)
        faults.fail("fetch", "late", call=faults.calls["fetch"] + 1)
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 2)  # recovers the first; its own fetch is late too
        claims = await session.fetch("q", 2)
        await faults.release()  # the first recovery, then the second fetch
        claims += await session.fetch("q", 2)
        assert jids(claims) == names
        assert set(world.private(session)) == {claim.delivery for claim in claims}

    async def test_a_lost_fetch_of_none(self, world: World) -> None:
        names, faults = await world.fill(1), Faults()
        session = await world.process(faults=faults)
        faults.fail("fetch", "late")
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 0)
        assert jids(await session.fetch("q", 1)) == names
        await faults.release()
        world.check(names)

    async def test_hole_15_an_adopted_inbox_counts_against_the_demand(self, world: World) -> None:
        names = await world.fill(4)
        session = await world.process()
        await session.wait("q", 1.0)
        assert jids(await session.fetch("q", 2)) == names[:2]


class TestSettle:
    async def claim(self, world: World, count: int = 1) -> tuple[Session, list[Claim]]:
        await world.fill(count)
        session = await world.process()
        return session, await session.fetch("q", count)

    async def test_done(self, world: World) -> None:
        session, claims = await self.claim(world, 3)
        verdicts = [Done(claims[0].delivery), Done(claims[1].delivery, failed=True)]
        assert await settle(session, *verdicts) == [True, True]
        assert (world.stat("processed"), world.stat("failed")) == (2, 1)
        world.check(jids(claims), done=["j0000", "j0001"])

    async def test_retry(self, world: World) -> None:
        session, (claim,) = await self.claim(world)
        assert await settle(session, Retry(claim.delivery, b'{"class":"A","args":[]}', 60.0))
        (member,) = world.members("retry").items()
        assert member[0] == b'{"class":"A","args":[]}'
        assert member[1] == pytest.approx(world.now() + 60.0, abs=2.0)
        assert (world.stat("processed"), world.stat("failed")) == (1, 1)
        assert world.private(session) == {}

    async def test_defer(self, world: World) -> None:
        session, (claim,) = await self.claim(world)
        assert await settle(session, Defer(claim.delivery, claim.raw, 60.0)) == [True]
        assert world.due_at("schedule")["j0000"] == pytest.approx(world.now() + 60.0, abs=2.0)
        assert (world.stat("processed"), world.stat("failed")) == (0, 0)
        world.check(["j0000"])

    async def test_bury(self, world: World) -> None:
        session, (claim,) = await self.claim(world)
        assert await settle(session, Bury(claim.delivery, claim.raw)) == [True]
        assert world.due_at("dead")["j0000"] == pytest.approx(world.now(), abs=2.0)
        assert (world.stat("processed"), world.stat("failed")) == (1, 1)
        world.check(["j0000"])

    async def test_release_keeps_the_order(self, world: World) -> None:
        session, claims = await self.claim(world, 5)
        await world.push(outgoing("later"))
        verdicts = [Release(claims[n].delivery) for n in (3, 0, 4, 1)]
        assert await settle(session, *verdicts, Done(claims[2].delivery)) == [True] * 5
        assert jids(world.queue("q")) == ["j0000", "j0001", "j0003", "j0004", "later"]
        assert world.queue("q")[0] == claims[0].raw
        assert world.stat("processed") == 1

    async def test_thousands_in_one_frame(self, world: World) -> None:
        """Lua passes on some 8,000 words in one call at the most."""
        await world.fill(9500)
        session = await world.process()
        claims: list[Claim] = []
        while found := await session.fetch("q", 250):
            claims += found
        assert await settle(session, *(Release(c.delivery) for c in claims)) == [True] * 9500
        assert jids(world.queue("q")) == [f"j{n:04}" for n in range(9500)]

    async def test_each_result_belongs_to_its_verdict(self, world: World) -> None:
        session, claims = await self.claim(world, 3)
        verdicts: list[Verdict] = [
            Release(claims[0].delivery), Done(999), Done(claims[1].delivery),
            Bury(998, b"x"), Retry(claims[2].delivery, claims[2].raw, 9.0), Release(997),
        ]  # fmt: skip
        expected = [True, False, True, False, True, False]
        assert await settle(session, *verdicts) == expected
        world.check(jids(claims), done=["j0001"])

    async def test_an_empty_frame(self, world: World) -> None:
        session = await world.process()
        assert await settle(session) == []

    async def test_many_at_once(self, world: World) -> None:
        session, claims = await self.claim(world, 500)
        verdicts = [Retry(claim.delivery, claim.raw, 60.0) for claim in claims]
        assert await settle(session, *verdicts) == [True] * 500
        assert len(world.members("retry")) == world.stat("failed") == 500

    async def test_a_fenced_verdict_changes_nothing_at_all(self, world: World) -> None:
        lock = Lock("token", 60.0)
        await world.push(outgoing("a", lock=lock))
        session = await world.process()
        verdicts: list[Verdict] = [
            Done(1, True, frees("a", lock)),
            Retry(2, payload("b"), 1.0, holds("a", lock, 1.0)),
            Defer(3, payload("b"), 1.0, holds("a", lock, 1.0)),
            Bury(4, payload("b"), frees("a", lock)),
            Release(5, frees("a", lock)),
        ]
        assert await settle(session, *verdicts) == [False] * 5
        world.check(["a"])
        assert (world.stat("processed"), world.stat("failed")) == (0, 0)
        holder = world.lock("token")
        assert holder
        assert holder == ("a", pytest.approx(60.0, abs=5.0))

    async def test_hole_06_settle_reply_lost(self, world: World) -> None:
        """Our own lost reply is not mistaken for a fence; nothing is done or counted twice."""
        await world.fill(4)
        faults = Faults()
        session = await world.process(faults=faults)
        a, b, c, d = await session.fetch("q", 4)
        frame = session.frame(
            "q",
            [Done(a.delivery), Retry(b.delivery, b.raw, 9.0), Release(c.delivery), Done(999),
             Bury(d.delivery, d.raw)],
        )  # fmt: skip
        faults.fail("settle", "after")
        with pytest.raises(StoreUnavailable):
            await session.settle(frame)
        expected = [True, True, True, False, True]
        assert await session.settle(frame) == await session.settle(frame) == expected
        assert (world.stat("processed"), world.stat("failed")) == (3, 2)
        world.check(jids([a, b, c, d]), done=jids([a]))

    async def test_a_late_settle_is_refused(self, world: World) -> None:
        await world.fill(2)
        faults = Faults()
        session = await world.process(faults=faults)
        a, b = await session.fetch("q", 2)
        first = session.frame("q", [Release(a.delivery)])
        faults.fail("settle", "late")
        with pytest.raises(StoreUnavailable):
            await session.settle(first)
        assert await session.settle(first) == [True]
        second = session.frame("q", [Done(b.delivery)])
        assert await session.settle(second) == [True]
        await faults.release()
        assert await session.settle(second) == [True]
        assert jids(world.queue("q")) == jids([a])

    async def test_queues_number_their_frames_apart(self, world: World) -> None:
        await world.push(outgoing("a"), outgoing("b", "other"))
        session = await world.process("q", "other")
        (a,), (b,) = await session.fetch("q", 1), await session.fetch("other", 1)
        assert a.delivery == b.delivery == 1
        assert await settle(session, Done(a.delivery)) == [True]
        assert await settle(session, Release(b.delivery), queue="other") == [True]
        world.check(["a", "b"], done=["a"])

    async def test_hole_14_settle_order(self, redis_world: RedisWorld) -> None:
        """A set that can't take the job: the job stays where it is."""
        session, claims = await self.claim(redis_world, 2)
        redis_world.cli("SET", "retry", "not a set")
        frame = session.frame("q", [Retry(claim.delivery, claim.raw, 9.0) for claim in claims])
        with pytest.raises((StoreRefused, StoreUnavailable)):
            await session.settle(frame)
        redis_world.check(jids(claims))
        redis_world.cli("DEL", "retry")
        assert await session.settle(frame) == [True, True]
        redis_world.check(jids(claims))
        assert redis_world.stat("failed") == 2

    @pytest.mark.parametrize("key", ["retry", "schedule", "dead", "queue:q"])
    async def test_a_key_of_another_type_holds_up_only_what_goes_there(
        self, redis_world: RedisWorld, key: str
    ) -> None:
        session, claims = await self.claim(redis_world, 5)
        done, retried, put_off, buried, released = claims
        verdicts: dict[str, Verdict] = {
            "done": Done(done.delivery),
            "retry": Retry(retried.delivery, retried.raw, 60.0),
            "schedule": Defer(put_off.delivery, put_off.raw, 60.0),
            "dead": Bury(buried.delivery, buried.raw),
            "queue:q": Release(released.delivery),
        }
        redis_world.cli("SET", key, "another program's")
        frame = session.frame("q", list(verdicts.values()))
        for _ in range(2):
            with pytest.raises(VerdictsRefused, match=f"WRONGTYPE {key} "):
                await session.settle(frame)
            held = {claim.delivery for claim in claims} & redis_world.private(session).keys()
            assert held == {verdicts[key].delivery}
        redis_world.cli("DEL", key)
        assert await session.settle(frame) == [True] * 5
        assert await session.settle(frame) == [True] * 5
        assert (redis_world.stat("processed"), redis_world.stat("failed")) == (3, 2)
        redis_world.check(jids(claims), done=jids([done]))

    async def test_what_is_held_up_may_be_fenced_meanwhile(self, redis_world: RedisWorld) -> None:
        session, (one, other) = await self.claim(redis_world, 2)
        redis_world.cli("SET", "retry", "another program's")
        verdicts = [Retry(one.delivery, one.raw, 60.0), Done(other.delivery)]
        frame = session.frame("q", verdicts)
        with pytest.raises(VerdictsRefused):
            await session.settle(frame)
        redis_world.cli("DEL", "retry", f"kiq:private|{session.ident}|q")
        assert await session.settle(frame) == [False, True]

    async def test_no_verdict_fails_for_a_key_that_it_does_not_use(
        self, redis_world: RedisWorld
    ) -> None:
        session, claims = await self.claim(redis_world, 3)
        for key in ("retry", "schedule", "dead"):
            redis_world.cli("SET", key, "another program's")
        verdicts = [Release(claims[0].delivery), Done(claims[1].delivery, True)]
        assert await settle(session, *verdicts, Done(claims[2].delivery)) == [True] * 3

    async def locked(self, world: World, jid: str = "a") -> tuple[Session, Claim, Lock]:
        lock = Lock("token", 60.0)
        await world.push(outgoing(jid, lock=lock))
        session = await world.process()
        (claim,) = await session.fetch("q", 1)
        return session, claim, lock

    async def test_done_and_bury_free_the_lock(self, world: World) -> None:
        session, claim, lock = await self.locked(world)
        await settle(session, Done(claim.delivery, False, frees("a", lock)))
        assert world.lock("token") is None
        await world.push(outgoing("b", lock=lock))
        (claim,) = await session.fetch("q", 1)
        await settle(session, Bury(claim.delivery, claim.raw, frees("b", lock)))
        assert world.lock("token") is None

    async def test_retry_and_defer_extend_the_lock(self, world: World) -> None:
        session, claim, lock = await self.locked(world)
        await settle(session, Retry(claim.delivery, claim.raw, 500.0, holds("a", lock, 500.0)))
        holder = world.lock("token")
        assert holder == ("a", pytest.approx(560.0, abs=5.0))
        await world.push(outgoing("b", lock=Lock("other", 60.0)))
        (claim,) = await session.fetch("q", 1)
        held = holds("b", Lock("other", 60.0), 300.0)
        await settle(session, Defer(claim.delivery, claim.raw, 300.0, held))
        assert world.lock("other") == ("b", pytest.approx(360.0, abs=5.0))

    async def test_another_jobs_lock_is_left_alone(self, world: World) -> None:
        session, claim, lock = await self.locked(world)
        await world.push(outgoing("b"), outgoing("c"))
        claims = await session.fetch("q", 2)
        await settle(
            session,
            Done(claims[0].delivery, False, frees("b", lock)),
            Retry(claims[1].delivery, claims[1].raw, 900.0, holds("c", lock, 900.0)),
        )
        assert world.lock("token") == ("a", pytest.approx(60.0, abs=5.0))
        assert claim.delivery in world.private(session)

    async def test_the_dead_set_is_trimmed_to_exactly_its_limit(self, world: World) -> None:
        await world.fill(7)
        session = await world.process(dead_limit=4)
        for claim in await session.fetch("q", 7):
            await settle(session, Bury(claim.delivery, claim.raw))
        assert jids(world.members("dead")) == ["j0003", "j0004", "j0005", "j0006"]

    async def test_a_batch_is_trimmed_too(self, world: World) -> None:
        await world.fill(7)
        session = await world.process(dead_limit=4)
        claims = await session.fetch("q", 7)
        await settle(session, *(Bury(claim.delivery, claim.raw) for claim in claims))
        assert len(world.members("dead")) == 4

    async def test_the_dead_are_forgotten_in_time(self, world: World) -> None:
        await world.fill(2)
        session = await world.process(dead_timeout_s=0.05)
        for claim in await session.fetch("q", 2):
            await settle(session, Bury(claim.delivery, claim.raw))
            await world.let_pass(0.06)
        assert jids(world.members("dead")) == ["j0001"]

    async def test_hole_13_trimmed_jobs_are_counted(self, world: World) -> None:
        await world.fill(3)
        session = await world.process(dead_limit=1)
        for claim in await session.fetch("q", 3):
            await settle(session, Bury(claim.delivery, claim.raw))
        assert world.stat("trimmed") == 2

    async def test_sets_keep_two_jobs_that_differ_only_in_their_jid(self, world: World) -> None:
        session, claims = await self.claim(world, 2)
        await settle(session, *(Retry(claim.delivery, claim.raw, 9.0) for claim in claims))
        assert len(world.members("retry")) == 2


class TestHolding:
    async def test_tells_all_claims_of_this_process_and_queue(self, world: World) -> None:
        await world.fill(4)
        await world.push(outgoing("x", "other"))
        one, two = await world.process("q", "other"), await world.process()
        claims = await one.fetch("q", 3)
        await one.fetch("other", 1)
        await two.fetch("q", 1)
        assert await one.holding("q") == claims
        await settle(one, Done(claims[1].delivery))
        assert await one.holding("q") == [claims[0], claims[2]]
        assert await one.holding("nowhere") == []


class TestPromote:
    async def test_due_jobs_move_in_their_order(self, world: World) -> None:
        now = world.now()
        await world.push(*(outgoing(f"j{n}", at_s=now - n) for n in (1, 3, 2)))
        await world.push(outgoing("later", at_s=now + 1000.0))
        session = await world.process()
        promotion = await session.promote(100)
        assert (promotion.moved, promotion.buried) == (3, 0)
        assert jids(world.queue("q")) == ["j3", "j2", "j1"]
        assert list(world.due_at("schedule")) == ["later"]

    async def test_says_when_the_next_is_due(self, world: World) -> None:
        session = await world.process()
        assert (await session.promote(100)).next_in_s is None
        await world.push(outgoing("a", in_s=100.0), outgoing("b", in_s=50.0))
        promotion = await session.promote(100)
        assert promotion.moved == 0
        assert promotion.next_in_s == pytest.approx(50.0, abs=2.0)

    async def test_a_delay_passes(self, world: World) -> None:
        await world.push(outgoing("a", in_s=0.05))
        session = await world.process()

        async def moved() -> int:
            return (await session.promote(100)).moved

        await world.eventually(moved, 0.01)
        world.check(["a"])
        assert jids(world.queue("q")) == ["a"]

    @pytest.mark.parametrize("key", ["retry", "schedule"])
    async def test_a_set_of_another_type_holds_up_only_itself(
        self, redis_world: RedisWorld, key: str
    ) -> None:
        session = await redis_world.process()
        other = "schedule" if key == "retry" else "retry"
        redis_world.cli("ZADD", other, 1, payload("a"))
        redis_world.cli("SET", key, "another program's")
        assert (await session.promote(100)).moved == 1
        with pytest.raises(StoreRefused, match=f"WRONGTYPE {key} holds a string"):
            await session.promote(100)
        assert jids(redis_world.queue("q")) == ["a"]

    async def test_the_dead_set_is_needed_only_for_what_goes_there(
        self, redis_world: RedisWorld
    ) -> None:
        session = await redis_world.process()
        redis_world.cli("ZADD", "retry", 1, payload("a"))
        redis_world.cli("SET", "dead", "another program's")
        assert (await session.promote(100)).moved == 1

    async def test_large_ones_move_in_several_steps(self, world: World) -> None:
        session = await world.process()
        args = json.dumps(["x" * 400_000])
        for n in range(5):
            await world.push(outgoing(f"j{n}", args=args, at_s=world.now() - 10.0 + n))
        steps = [(await session.promote(100)).moved for _ in range(3)]
        assert max(steps) < 5 or not isinstance(world, RedisWorld)
        assert sum(steps) == 5
        assert jids(world.queue("q")) == [f"j{n}" for n in range(5)]

    async def test_goes_on_where_its_limit_stopped_it(self, world: World) -> None:
        now = world.now()
        await world.push(*(outgoing(f"j{n:03}", at_s=now - 500 + n) for n in range(250)))
        session = await world.process()
        moved: list[int] = []
        while (promotion := await session.promote(1000)).moved:
            assert promotion.next_in_s == 0.0
            moved.append(promotion.moved)
        assert sum(moved) == 250
        assert max(moved) <= 100
        assert jids(world.queue("q")) == [f"j{n:03}" for n in range(250)]

    async def test_the_new_bytes_tell_when(self, world: World) -> None:
        await world.push(outgoing("a", at_s=1.0, at=1.0, enqueued_at=5.0, args=HARD_ARGS))
        session = await world.process()
        await session.promote(100)
        (raw,) = world.queue("q")
        job = decode(raw)
        assert job.enqueued_at == pytest.approx(world.now(), abs=2.0)
        assert "at" not in job.payload
        assert HARD_ARGS in raw.decode()

    async def test_queues_of_all_names(self, world: World) -> None:
        await world.push(*(outgoing(f"of {name}", name, at_s=1.0) for name in ODD_QUEUES))
        session = await world.process()
        assert (await session.promote(100)).moved == len(ODD_QUEUES)
        assert [jids(world.queue(name)) for name in ODD_QUEUES] == [
            [f"of {name}"] for name in ODD_QUEUES
        ]

    async def test_two_promoters_move_each_job_once(self, world: World) -> None:
        names = [f"j{n:02}" for n in range(60)]
        await world.push(*(outgoing(name, at_s=1.0 + n) for n, name in enumerate(names)))
        one, two = await world.process(), await world.process()
        promotions = await asyncio.gather(one.promote(100), two.promote(100), one.promote(100))
        assert sum(promotion.moved for promotion in promotions) == 60
        assert sorted(jids(world.queue("q"))) == names

    async def test_hole_13_undecodable_jobs_are_buried_as_they_are(self, world: World) -> None:
        junk = [b"\xff\xfe not json", b"{", b'{"class": "A"}']
        session = await world.process()
        template = outgoing("x", at_s=1.0)
        frame = world.frame(*(template._replace(payload=raw) for raw in junk))
        await session.push(frame)
        promotion = await session.promote(100)
        assert (promotion.moved, promotion.buried) == (3, 3)
        assert sorted(world.members("dead")) == sorted(junk)

    async def test_json_that_is_no_object_is_buried_in_one(self, world: World) -> None:
        """As it is, it would take Sidekiq's page of dead jobs down."""
        session = await world.process()
        await session.push(world.frame(outgoing("x", at_s=1.0)._replace(payload=b"[1]")))
        assert (await session.promote(100)).buried == 1
        [kept] = world.members("dead")
        assert unsealed(decode(kept)) == b"[1]"
        assert world.members("schedule") == {}

    async def test_hole_13_what_only_cjson_can_not_read_is_promoted(self, world: World) -> None:
        deep = "[" * 500 + "]" * 500
        await world.push(outgoing("a", at_s=1.0, args=f"[{deep}, 1e999, {10**400}]"))
        session = await world.process()
        assert (await session.promote(100)).buried == 0
        assert deep in world.queue("q")[0].decode()

    async def test_hole_16_twenty_digit_integers(self, world: World) -> None:
        """Through schedule, retry and rescue the text of the arguments stays as it was."""
        await world.push(outgoing("a", at_s=1.0, args=HARD_ARGS))
        one, two = await world.process(), await world.process()
        await one.promote(100)
        (claim,) = await one.fetch("q", 1)
        verdict = decide(
            claim, job_of(claim), Failure(ValueError("no")), Rules(backoff="immediate"),
            world.now(), world.clock.random,
        )  # fmt: skip
        assert await settle(one, verdict) == [True]
        await world.eventually(lambda: one.promote(100))
        await world.eventually(lambda: world.queue("q"))
        assert jids(await one.fetch("q", 1)) == ["a"]
        await world.die(one)
        (rescued,) = await world.rescued(two)
        assert rescued.jid == "a"
        (claim,) = await two.fetch("q", 1)
        assert HARD_ARGS in claim.raw.decode()
        assert job_of(claim).retry_count == 0
        assert job_of(claim).args == json.loads(HARD_ARGS)


class TestBeat:
    async def test_tells_what_the_store_holds(self, world: World) -> None:
        await world.fill(3)
        await world.push(outgoing("x", "other"))
        session = await world.process("q", "other")
        await session.fetch("q", 2)
        await session.wait("other", 1.0)
        orders = world.beat(session, "q", "other")
        assert orders.held == {"q": 2, "other": 0}
        assert orders.inbox == {"q": 0, "other": 1}

    async def test_brings_each_signal_once(self, world: World) -> None:
        session, other = await world.process(), await world.process()
        world.signal(session.ident, "TSTP")
        world.signal(session.ident, "TERM")
        assert world.beat(other).signal is None
        assert [world.beat(session).signal for _ in range(3)] == ["TSTP", "TERM", None]

    async def test_makes_and_keeps_members(self, world: World) -> None:
        session = await world.process("q", "a:b", beat=False)
        assert session.ident not in world.processes()
        assert not session.trusted()
        world.beat(session, "q", "a:b")
        assert session.ident in world.processes()
        assert {(session.ident, "q"), (session.ident, "a:b")} <= world.privs()
        assert session.trusted()

    async def test_renews_the_lease(self, world: World) -> None:
        await world.fill(2)
        session = await world.process(lease_s=0.5)
        for _ in range(3):
            await world.let_pass(0.2)
            world.beat(session, lease_s=0.5)
        assert len(await session.fetch("q", 1)) == 1

    async def test_trust_ends_before_the_lease(self, world: World) -> None:
        session = await world.process(lease_s=1.0)
        await world.let_pass(0.55)
        assert not session.trusted()
        assert await session.fetch("q", 1) == []

    async def test_a_lost_beat_is_not_trusted(self, world: World) -> None:
        faults = Faults()
        session = await world.process(faults=faults, beat=False)
        faults.fail("beat", "before")
        with pytest.raises(StoreUnavailable):
            world.beat(session)
        assert not session.trusted()

    async def test_leaving_ends_lease_and_membership(self, world: World) -> None:
        names = await world.fill(1)
        session = await world.process()
        await session.leave()
        assert not session.trusted()
        assert session.ident not in world.processes()
        assert (session.ident, "q") in world.privs()
        with pytest.raises(LeaseLost):
            await session.fetch("q", 1)
        await session.leave()
        assert jids(world.queue("q")) == names


class TestRescue:
    async def stranded(self, world: World, count: int = 3) -> tuple[Session, Session, list[Claim]]:
        """A dead process that holds jobs, and one that could rescue them."""
        await world.fill(count)
        dead, alive = await world.process(), await world.process()
        claims = await dead.fetch("q", count)
        await world.die(dead)
        return dead, alive, claims

    async def test_gives_jobs_back_in_their_order(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world)
        await world.push(outgoing("later"))
        rescued = await world.rescued(alive)
        assert sorted(one.jid for one in rescued) == jids(claims)
        assert {(one.queue, one.recoveries, one.poison) for one in rescued} == {("q", 1, False)}
        assert jids(world.queue("q")) == [*jids(claims), "later"]
        assert world.private(dead) == {}

    async def test_counts_no_attempt(self, world: World) -> None:
        _, alive, _ = await self.stranded(world, 1)
        await world.rescued(alive)
        (claim,) = await alive.fetch("q", 1)
        assert (job_of(claim).attempt, job_of(claim).recovered) == (1, 1)
        assert world.stat("processed") == 0

    async def test_the_living_are_left_alone(self, world: World) -> None:
        await world.fill(2)
        one, two = await world.process(), await world.process()
        await one.fetch("q", 2)
        for _ in range(5):
            sweep = await two.rescue()
            assert sweep == ([], 0)
            await world.let_pass(world.suspicion_s / 2)
        assert len(world.private(one)) == 2

    async def test_one_look_is_not_enough(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world)
        for _ in range(2 if world.real else 9):
            sweep = await alive.rescue()
            assert (list(sweep.rescued), sweep.suspects) == ([], 1)
        world.beat(dead)
        await world.let_pass(world.suspicion_s / 2)
        assert await alive.rescue() == ([], 0)
        assert len(world.private(dead)) == len(claims)

    async def test_a_beat_in_between_makes_the_suspicion_start_anew(self, world: World) -> None:
        dead, alive, _ = await self.stranded(world)
        await world.confirm(alive)
        world.beat(dead)
        await alive.rescue()
        await world.die(dead)
        sweep = await alive.rescue()
        assert (list(sweep.rescued), sweep.suspects) == ([], 1)

    async def test_hole_10_old_suspect_marks(self, world: World) -> None:
        """After a pause in which nobody looked, what was seen before counts for nothing."""
        _, alive, _ = await self.stranded(world)
        for _ in range(2):
            await alive.rescue()
            await world.let_pass(world.suspicion_s / 4)
        await world.let_pass(world.suspicion_s * 1.25)
        sweep = await alive.rescue()
        assert (list(sweep.rescued), sweep.suspects) == ([], 1)
        await world.let_pass(world.suspicion_s / 4)
        assert not (await alive.rescue()).rescued

    async def test_hole_10_a_late_rescue_finds_its_mark_too_old(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world, 1)
        await world.confirm(alive)
        await world.let_pass(world.suspicion_s * 1.25)
        suspect = Suspect(dead.ident, "q", True)
        orphan = Orphan(claims[0].delivery, claims[0].raw, False)
        assert await world.backend_of(alive).rescue(suspect, [orphan], 1) == set()
        assert len(world.private(dead)) == 1

    async def test_who_came_back_to_life_wins(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world)
        await world.confirm(alive)
        world.beat(dead)
        orphans = [Orphan(claim.delivery, claim.raw, False) for claim in reversed(claims)]
        backend = world.backend_of(alive)
        assert await backend.rescue(Suspect(dead.ident, "q", True), orphans, 1) == set()
        assert await settle(dead, *(Done(claim.delivery) for claim in claims)) == [True] * 3

    async def test_unconfirmed_it_does_nothing(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world, 1)
        orphan = Orphan(claims[0].delivery, claims[0].raw, False)
        backend = world.backend_of(alive)
        assert await backend.rescue(Suspect(dead.ident, "q", True), [orphan], 1) == set()
        assert len(world.private(dead)) == 1

    async def test_what_was_settled_meanwhile_is_not_rescued(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world, 3)
        await settle(dead, Done(claims[1].delivery))
        orphans = [Orphan(claim.delivery, claim.raw, False) for claim in reversed(claims)]
        backend = world.backend_of(alive)

        async def moved_some() -> set[int]:
            await backend.suspects()
            return await backend.rescue(Suspect(dead.ident, "q", True), orphans, 1)

        moved = await world.eventually(moved_some, world.suspicion_s / 4)
        assert moved == {claims[0].delivery, claims[2].delivery}
        assert jids(world.queue("q")) == ["j0000", "j0002"]

    async def test_a_zombies_settles_are_fenced(self, world: World) -> None:
        dead, alive, claims = await self.stranded(world)
        await world.rescued(alive)
        world.beat(dead)
        verdicts: list[Verdict] = [
            Done(claims[0].delivery, True), Bury(claims[1].delivery, claims[1].raw),
            Release(claims[2].delivery),
        ]  # fmt: skip
        assert await settle(dead, *verdicts) == [False] * 3
        assert (world.stat("processed"), world.stat("failed")) == (0, 0)
        world.check(jids(claims))

    async def test_two_rescuers_move_each_job_once(self, world: World) -> None:
        _, one, claims = await self.stranded(world, 30)
        two = await world.process()
        rescued: list[str] = []

        async def swept() -> bool:
            for sweep in await asyncio.gather(one.rescue(), two.rescue(), one.rescue()):
                rescued.extend(found.jid for found in sweep.rescued)
            return bool(rescued)

        await world.eventually(swept, world.suspicion_s / 4)
        assert sorted(rescued) == jids(claims)
        assert jids(world.queue("q")) == jids(claims)

    async def test_hole_09_stopped_between_wait_and_fetch(self, world: World) -> None:
        """An inbox is emptied even when the private hash is empty."""
        names = await world.fill(2)
        dead, alive = await world.process(), await world.process()
        await dead.wait("q", 1.0)
        await world.die(dead)

        async def swept() -> bool:
            await alive.rescue()
            return not world.inbox(dead)

        await world.eventually(swept, world.suspicion_s / 4)
        assert jids(world.queue("q")) == names

    async def test_the_inbox_goes_back_behind_what_is_older(self, world: World) -> None:
        names = await world.fill(4)
        dead, alive = await world.process(), await world.process()
        await dead.fetch("q", 2)
        await dead.wait("q", 1.0)
        await world.die(dead)
        await world.rescued(alive)
        assert jids(world.queue("q")) == names

    async def test_hole_11_rescue_order(self, world: World) -> None:
        names = await world.fill(250)
        dead, alive = await world.process(), await world.process()
        for _ in range(5):
            await dead.fetch("q", 50)
        await world.die(dead)
        assert len(await world.rescued(alive)) == 250
        assert jids(world.queue("q")) == names

    async def test_large_jobs_go_back_in_several_steps(self, world: World) -> None:
        """All of them at once took longer than a command may, and none ever went back."""
        args = json.dumps(["x" * 400_000])
        await world.push(*(outgoing(f"j{n}", args=args) for n in range(5)))
        faults = Faults()
        died, rescuer = await world.process(), await world.process(faults=faults)
        while await died.fetch("q", 5):
            pass
        await world.die(died)
        faults.fail("rescue", "before", call=2)
        assert len(await world.rescued(rescuer)) == 2, "what has moved is told of"
        assert len(await world.rescued(rescuer)) == 3
        assert jids(world.queue("q")) == [f"j{n}" for n in range(5)]
        assert faults.calls["holding"] >= 3

    @pytest.mark.parametrize("how", ["after", "late"])
    @pytest.mark.parametrize("times", [1, 2])
    async def test_a_rescue_whose_reply_was_lost_is_reported_by_the_next(
        self, world: World, how: How, times: int
    ) -> None:
        """Its jobs were back in their queue, and no event said so."""
        faults = Faults()
        names = await world.fill(3)
        died, rescuer = await world.process(), await world.process(faults=faults)
        await died.fetch("q", 3)
        await world.die(died)
        faults.fail("rescue", how, times=times)
        lost = 0

        async def tried() -> bool:
            nonlocal lost
            try:
                return bool((await rescuer.rescue()).rescued)
            except StoreUnavailable:
                lost += 1
            return lost == times

        await world.eventually(tried, world.suspicion_s / 4)
        assert jids(world.queue("q")) == (names if how == "after" else [])
        rescued = await world.rescued(rescuer)
        assert sorted(one.jid for one in rescued) == names
        await faults.release()
        assert not (await rescuer.rescue()).rescued, "once"
        assert jids(world.queue("q")) == names
        assert world.private(died) == {}

    async def test_a_rescue_that_never_arrived_is_made_by_the_next(self, world: World) -> None:
        faults = Faults()
        names = await world.fill(2)
        died, rescuer = await world.process(), await world.process(faults=faults)
        await died.fetch("q", 1)
        await world.die(died)
        faults.fail("rescue", "before")
        with pytest.raises(StoreUnavailable):
            await world.rescued(rescuer)
        assert [one.jid for one in await world.rescued(rescuer)] == names[:1]
        assert jids(world.queue("q")) == names

    async def test_sets_of_another_type_hold_up_only_what_goes_there(
        self, redis_world: RedisWorld
    ) -> None:
        """The dead set can't take the poison; what was beside it goes back to its queue."""
        poison = payload("poison", recovered=3, recovered_at=redis_world.now())
        await redis_world.push(outgoing("a"))
        redis_world.cli("LPUSH", "queue:q", poison, payload("b"))
        died, rescuer = await redis_world.process(), await redis_world.process()
        assert len(await died.fetch("q", 3)) == 3
        redis_world.cli("SET", "dead", "another program's")
        await redis_world.die(died)
        assert len(await redis_world.rescued(rescuer)) == 2
        assert jids(redis_world.queue("q")) == ["a", "b"]
        assert jids(redis_world.private(died).values()) == ["poison"]

        async def told() -> bool:
            try:
                await rescuer.rescue()
            except StoreRefused as error:
                return "WRONGTYPE dead holds a string" in str(error)
            return False

        await redis_world.eventually(told)
        redis_world.cli("DEL", "dead")
        assert [job.poison for job in await redis_world.rescued(rescuer)] == [True]

    async def test_hole_12_a_neighbours_necromancer(self, redis_world: RedisWorld) -> None:
        """No key that a Kiq node on the same server would take for its own dead."""
        session, _, _ = await self.stranded(redis_world)
        await redis_world.fill(1, "other")
        world_keys = redis_world.cli("KEYS", "*")
        assert not [key for key in world_keys if "backup" in key]
        assert f"kiq:private|{session.ident}|q" in world_keys

    async def test_hole_07_membership_outlives_the_stop(self, world: World) -> None:
        """A job that a late wait puts into a left inbox is found."""
        names = await world.fill(1)
        left, alive = await world.process(), await world.process()
        await left.leave()
        world.late_wait(left.ident, "q")

        async def back() -> bool:
            await alive.rescue()
            return bool(world.queue("q"))

        await world.eventually(back, world.suspicion_s / 4)
        assert jids(world.queue("q")) == names

    async def test_an_empty_one_is_forgotten_in_the_end(self, world: World) -> None:
        left, alive = await world.process(), await world.process()
        await left.leave()
        start = world.clock.monotonic()

        async def forgotten() -> bool:
            sweep = await alive.rescue()
            assert not sweep.rescued
            return (left.ident, "q") not in world.privs()

        await world.eventually(forgotten, world.suspicion_s / 4)
        assert world.clock.monotonic() - start >= world.outlive_s
        assert (alive.ident, "q") in world.privs()

    async def test_poison_is_buried_at_the_fourth_crash(self, world: World) -> None:
        await world.push(outgoing("a", args=HARD_ARGS))
        rescuer = await world.process()
        for crash in range(1, 5):
            victim = await world.process()
            await victim.fetch("q", 1)
            await world.die(victim)
            (rescued,) = await world.rescued(rescuer)
            assert (rescued.recoveries, rescued.poison) == (crash, crash == 4)
        assert world.queue("q") == []
        (raw,) = world.members("dead")
        assert decode(raw).payload["error_class"] == "kiqpy.Poison"
        assert HARD_ARGS in raw.decode()
        world.check(["a"])

    async def test_who_has_died_twice_runs_apart(self, world: World) -> None:
        """One of them may be what kills: the others must not be with it each time."""
        names = ["a", "b", "c", "d"]
        await world.push(*(outgoing(name) for name in names))
        rescuer = await world.process()
        for crash in (1, 2):
            victim = await world.process()
            assert len(await victim.fetch("q", 4)) == 4, crash
            await world.die(victim)
            await world.rescued(rescuer)
        assert jids(world.queue("q")) == ["a"]
        assert jids(world.members("schedule")) == ["b", "c", "d"]
        world.check(names)

    async def test_what_runs_apart_can_be_read_by_rubys_poller(self, world: World) -> None:
        """It takes from the schedule before it parses: what it can't read would be lost."""
        deep = "[" * 120 + "]" * 120
        wrong = payload("", tags="x", at=5.0)
        await world.push(
            outgoing("a"), outgoing("b")._replace(payload=wrong), outgoing("c", args=deep)
        )
        rescuer = await world.process()
        for _ in range(2):
            victim = await world.process()
            await victim.fetch("q", 3)
            await world.die(victim)
            rescued = await world.rescued(rescuer)
        assert [one.jid for one in rescued if one.poison] == ["c"]
        (put_off,) = world.members("schedule")
        mended = decode(put_off).payload
        assert (mended["tags"], len(mended["jid"]), "at" in mended) == (["x"], 24, False)
        assert jids(world.members("dead")) == ["c"]
        assert jids(world.queue("q")) == ["a"]

    async def test_crashes_are_forgotten_after_three_days(self, world: World) -> None:
        if world.real:
            pytest.skip("takes three days")
        await world.push(outgoing("a"))
        rescuer = await world.process()
        recoveries: list[int] = []
        for _ in range(6):
            victim = await world.process()
            await victim.fetch("q", 1)
            await world.die(victim)
            recoveries += [one.recoveries for one in await world.rescued(rescuer)]
            await world.let_pass(30 * 3600.0)
        assert recoveries == [1, 2, 3, 1, 2, 3]

    async def test_unreadable_jobs_are_rescued_as_they_are(self, world: World) -> None:
        junk = b"\xff not json"
        session = await world.process()
        await session.push(world.frame(outgoing("x")._replace(payload=junk)))
        (claim,) = await session.fetch("q", 1)
        assert claim.raw == junk
        await world.die(session)
        await world.rescued(await world.process())
        assert world.queue("q") == [junk]

    async def test_queues_are_rescued_apart(self, world: World) -> None:
        await world.push(*(outgoing(f"of {name}", name) for name in ODD_QUEUES))
        dead = await world.process(*ODD_QUEUES)
        for name in ODD_QUEUES:
            await dead.fetch(name, 1)
        alive = await world.process()
        await world.die(dead)
        found: list[str] = []

        async def all_back() -> bool:
            found.extend(one.jid for one in (await alive.rescue()).rescued)
            return len(found) == len(ODD_QUEUES)

        await world.eventually(all_back, world.suspicion_s / 4)
        assert [jids(world.queue(name)) for name in ODD_QUEUES] == [
            [f"of {name}"] for name in ODD_QUEUES
        ]


class TestWakingByMovers:
    """Whatever puts a job into a queue wakes one who waits there."""

    async def test_promote(self, world: World) -> None:
        await world.push(outgoing("a", at_s=1.0))
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        await session.promote(100)
        await waiting
        assert jids(await session.fetch("q", 1)) == ["a"]

    async def test_release(self, world: World) -> None:
        await world.fill(1)
        one, two = await world.process(), await world.process()
        (claim,) = await one.fetch("q", 1)
        waiting = asyncio.create_task(two.wait("q", 20.0))
        await world.blocked(1)
        await settle(one, Release(claim.delivery))
        await waiting
        assert jids(await two.fetch("q", 1)) == ["j0000"]

    async def test_unwait(self, world: World) -> None:
        await world.fill(1)
        one, two = await world.process(), await world.process()
        await one.wait("q", 1.0)
        waiting = asyncio.create_task(two.wait("q", 20.0))
        await world.blocked(1)
        await one.unwait("q")
        await waiting
        assert jids(await two.fetch("q", 1)) == ["j0000"]


@pytest.fixture
def full(redis_world: RedisWorld) -> Iterator[Callable[[], None]]:
    """A call that leaves the server no memory; the test's end gives it back."""

    def fill_up() -> None:
        redis_world.cli("CONFIG", "SET", "maxmemory", 1)

    yield fill_up
    redis_world.cli("CONFIG", "SET", "maxmemory", 0)


class TestFullServer:
    """At its `maxmemory` a server can be emptied: only pushes wait."""

    async def test_pushes_wait(self, redis_world: RedisWorld, full: Callable[[], None]) -> None:
        client = await redis_world.process()
        full()
        with pytest.raises(StoreUnavailable, match="is full"):
            await client.push(redis_world.frame(outgoing("a")))
        redis_world.check([])

    async def test_jobs_are_claimed_and_given_back(
        self, redis_world: RedisWorld, full: Callable[[], None]
    ) -> None:
        await redis_world.fill(3)
        session = await redis_world.process()
        other = await redis_world.process()
        redis_world.late_wait(session.ident, "q")
        redis_world.late_wait(other.ident, "q")
        full()
        redis_world.beat(session)
        await other.unwait("q")
        claims = await session.fetch("q", 2)
        assert jids(claims) == ["j0000", "j0001"]
        assert await settle(session, Release(claims[0].delivery), Done(claims[1].delivery))
        redis_world.check(["j0000", "j0001", "j0002"], done=["j0001"])

    async def test_a_wait_ends_when_a_job_comes(
        self, redis_world: RedisWorld, full: Callable[[], None]
    ) -> None:
        session = await redis_world.process()
        full()
        wait = asyncio.ensure_future(session.wait("q", 60.0))
        redis_world.cli("CONFIG", "SET", "maxmemory", 0)
        await redis_world.fill(1)
        await asyncio.wait_for(wait, 30.0)

    async def test_a_lost_fetch_is_recovered(
        self, redis_world: RedisWorld, full: Callable[[], None]
    ) -> None:
        await redis_world.fill(1)
        faults = Faults()
        session = await redis_world.process(faults=faults)
        full()
        faults.fail("fetch", "after")
        with pytest.raises(StoreUnavailable):
            await session.fetch("q", 1)
        assert jids(await session.fetch("q", 1)) == ["j0000"]

    async def test_due_jobs_move(self, redis_world: RedisWorld, full: Callable[[], None]) -> None:
        session = await redis_world.process()
        redis_world.cli("ZADD", "retry", 1, payload("a"))
        redis_world.cli("ZADD", "schedule", 1, payload("b"), 2, b"no job at all")
        full()
        assert (await session.promote(100)).moved == 3
        assert sorted(jids(redis_world.queue("q"))) == ["a", "b"]

    async def test_a_dead_process_is_rescued(
        self, redis_world: RedisWorld, full: Callable[[], None]
    ) -> None:
        await redis_world.fill(2)
        died, rescuer = await redis_world.process(), await redis_world.process()
        assert len(await died.fetch("q", 2)) == 2
        full()
        await redis_world.die(died)
        assert len(await redis_world.rescued(rescuer)) == 2
        assert jids(redis_world.queue("q")) == ["j0000", "j0001"]

    async def test_a_leader_is_elected_and_remains(
        self, redis_world: RedisWorld, full: Callable[[], None]
    ) -> None:
        one, two = await redis_world.process(), await redis_world.process()
        full()
        assert await one.calendar.lead(60.0)
        assert await one.calendar.lead(60.0)
        assert not await two.calendar.lead(60.0)


class TestCensus:
    async def test_sizes(self, world: World) -> None:
        await world.fill(3)
        await world.push(outgoing("a", "a:b"), outgoing("b", in_s=60.0))
        session = await world.process()
        found = await session.census.sizes(["q", "a:b", "empty"])
        assert found == {"q": 3, "a:b": 1, "empty": 0, "schedule": 1, "retry": 0, "dead": 0}

    async def test_a_page_is_by_rank_soonest_first(self, world: World) -> None:
        await world.push(*(outgoing(f"j{n}", at_s=2e9 + n) for n in (3, 1, 0, 2)))
        session = await world.process()
        found = await session.census.page("schedule", 1, 2)
        assert jids(found) == ["j1", "j2"]
        assert [entry.score for entry in found] == [2e9 + 1, 2e9 + 2]
        assert jids(await session.census.page("schedule", 3, 10)) == ["j3"]
        assert await session.census.page("schedule", 4, 10) == []
        assert await session.census.page("retry", 0, 10) == []

    async def test_a_page_of_a_queue_is_next_one_first(self, world: World) -> None:
        names = await world.fill(5)
        session = await world.process()
        assert jids(await session.census.queue_page("q", 0, 2)) == names[:2]
        assert jids(await session.census.queue_page("q", 3, 10)) == names[3:]
        assert await session.census.queue_page("q", 5, 10) == []
        assert await session.census.queue_page("empty", 0, 10) == []

    async def test_what_can_not_be_read_is_shown_raw(self, world: World) -> None:
        session = await world.process()
        await session.push(world.frame(outgoing("x")._replace(payload=b"\xff")))
        (entry,) = await session.census.queue_page("q", 0, 1)
        assert (entry.job, entry.raw) == (None, b"\xff")


class TestLostCalls:
    """Any call may get lost, or its reply, or arrive late: sent again, all comes out right."""

    VERBS = (
        "push", "unwait", "fetch", "recover", "settle", "holding", "due", "promote",
        "suspects", "rescue", "beat", "leave",
    )  # fmt: skip

    @pytest.mark.parametrize("call", [1, 2])
    @pytest.mark.parametrize("how", HOWS)
    @pytest.mark.parametrize("verb", VERBS)
    async def test_of_every_verb(self, world: World, verb: str, how: How, call: int) -> None:
        faults = Faults()
        faults.fail(verb, how, call=call)
        if verb == "recover":
            faults.fail("fetch", "after", call=call)
        done = await self.scenario(world, faults)
        await faults.release()
        world.check(["a", "b", "c", "d", "e", "f"], done)
        assert world.stat("processed") == len(done) + len(world.members("retry"))

    async def test_of_all_at_once(self, world: World) -> None:
        faults = Faults()
        for verb in self.VERBS:
            for n, how in enumerate(HOWS):
                faults.fail(verb, how, call=1 + 2 * n)
        done = await self.scenario(world, faults)
        await faults.release()
        world.check(["a", "b", "c", "d", "e", "f"], done)

    async def scenario(self, world: World, faults: Faults) -> list[str]:
        """Six jobs: done, deferred, retried, released, and two of a process that dies."""
        session = await world.process(faults=faults, beat=False)
        await again(lambda: beaten(world, session))
        lock = Lock("token", 60.0)
        first = world.frame(*(outgoing(jid, lock=lock if jid == "a" else None) for jid in "abc"))
        second = world.frame(
            outgoing("d", at_s=1.0), outgoing("e", at_s=2.0), outgoing("f", at_s=3.0)
        )
        for frame in (first, second):
            results = await again(lambda frame=frame: session.push(frame))
            assert {result.state for result in results} <= {"queued", "scheduled"}
        await again(lambda: session.unwait("q"))
        claims = await collect(session, 3)
        held = await again(lambda: session.holding("q"))
        assert held == claims
        verdicts = [
            Done(claims[0].delivery, False, frees("a", lock)),
            Defer(claims[1].delivery, claims[1].raw, 900.0),
            Retry(claims[2].delivery, claims[2].raw, 900.0),
        ]
        for verdict in verdicts:
            frame_of = session.frame("q", [verdict])
            assert await again(lambda frame=frame_of: session.settle(frame)) == [True]
        await world.eventually(lambda: again(lambda: promoted(session, world)))
        (claim,) = await collect(session, 1)
        released = session.frame("q", [Release(claim.delivery)])
        assert await again(lambda: session.settle(released)) == [True]
        victim = await world.process()
        await victim.fetch("q", 2)
        await world.die(victim)

        async def back() -> bool:
            await again(session.rescue)
            return not world.private(victim)

        await world.eventually(back, world.suspicion_s / 8)
        assert world.lock("token") is None
        await again(session.leave)
        return ["a"]


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call until it is answered."""
    for _ in range(10):
        try:
            return await call()
        except StoreUnavailable:
            continue
    raise AssertionError("never answered")


async def beaten(world: World, session: Session) -> object:
    return world.beat(session)


async def promoted(session: Session, world: World) -> bool:
    await session.promote(100)
    return "d" not in world.due_at("schedule") and len(world.queue("q")) == 3


async def collect(session: Session, count: int) -> list[Claim]:
    """Fetch as a producer does, until so many jobs are claimed."""
    claims: list[Claim] = []
    for _ in range(10):
        if len(claims) < count:
            missing = count - len(claims)
            claims += await again(lambda missing=missing: session.fetch("q", missing))
    assert len(claims) == count
    return claims

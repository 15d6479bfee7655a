"""The source of local jobs: fed from memory, and from the queue in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kiqpy._extensions.local.journal import Journal, JournalSettings
from kiqpy._extensions.local.source import LocalSource
from kiqpy._stages.source import QueueSource
from kiqpy.errors import FetchPaused, StoreError
from kiqpy.job import Claim
from kiqpy.store import HeartbeatReply
from kiqpy.store._session import Session
from tests.faults import Faults
from tests.store.contract import MemoryWorld, jids, outgoing

pytestmark = pytest.mark.anyio


class Pauses:
    """A `Monitor` that hears nothing."""

    def on_error(self, queue: str, error: StoreError) -> None: ...

    def on_failure(self, error: BaseException) -> None: ...

    def on_pause(self, queue: str, paused: bool) -> None: ...


class Fed:
    """A source over one process of a world."""

    def __init__(self, world: MemoryWorld, session: Session, faults: Faults) -> None:
        self.world, self.session, self.faults = world, session, faults
        self.errors: list[StoreError] = []
        self.journal = Journal(
            store=session,
            queue="q",
            clock=world.clock,
            settings=JournalSettings(),
            on_fenced=lambda: None,
            on_error=self.errors.append,
        )
        inner = QueueSource(["q"], session, Pauses())
        self.source = LocalSource(self.journal, inner, world.clock, self.errors.append)

    def feed(self, jid: str, *, write: bool = False) -> Claim:
        claim = self.journal.accept(outgoing(jid), write=write)
        self.source.feed(claim)
        return claim

    def beat(self) -> HeartbeatReply:
        return self.world.beat(self.session, "q")

    async def look(self) -> None:
        """Wait until the queue in Redis was looked at."""
        await asyncio.wait_for(self.source.wait(1000.0), 10)


@pytest.fixture
async def fed() -> AsyncIterator[Fed]:
    world, faults = MemoryWorld(), Faults()
    yield Fed(world, await world.process("q", faults=faults), faults)
    await world.close()


async def test_what_is_fed_needs_no_call(fed: Fed) -> None:
    claims = [fed.feed("a"), fed.feed("b"), fed.feed("c")]
    assert await fed.source.fetch(2) == claims[:2]
    assert await fed.source.fetch(2) == claims[2:]
    assert fed.faults.calls["fetch"] == 0


async def test_a_job_in_redis_is_not_starved_by_those_in_memory(fed: Fed) -> None:
    await fed.world.push(outgoing("stored"))
    await fed.look()
    for n in range(5):
        fed.feed(f"j{n}")
    assert jids(await fed.source.fetch(3)) == ["stored", "j0", "j1"]


async def test_while_redis_is_away_those_in_memory_begin(fed: Fed) -> None:
    fed.faults.fail("wait", "before", times=50)
    fed.faults.fail("fetch", "before", times=50)
    await fed.look()
    assert len(fed.errors) == 1
    claim = fed.feed("a")
    assert await fed.source.fetch(5) == [claim]


async def test_a_pause_holds_those_in_memory_too(fed: Fed) -> None:
    claim = fed.feed("a")
    fed.world.pause("q")
    with pytest.raises(FetchPaused):
        await fed.source.fetch(0)
    with pytest.raises(FetchPaused):
        await fed.source.fetch(5)
    fed.world.server.paused.clear()
    await fed.source.fetch(0)
    assert await fed.source.fetch(5) == [claim]


async def test_what_was_rescued_meanwhile_does_not_begin(fed: Fed) -> None:
    """What only this process knows begins also without a lease."""
    rescued, kept = fed.feed("rescued", write=True), fed.feed("kept", write=True)
    await fed.world.clock.advance(1.0)
    fed.world.beat(fed.session, "q", lease_s=5)
    await fed.world.clock.advance(60)
    here = fed.feed("here")
    assert await fed.source.fetch(5) == [here]
    del fed.world.server.privates[fed.session.ident, "q"][rescued.delivery]
    fed.beat()
    assert await fed.source.fetch(5) == [kept]
    assert fed.source.claimed("q") == {kept.delivery}


async def test_a_lost_claim_is_noticed_beside_jobs_in_memory(fed: Fed) -> None:
    """The store holds one more than is known, however many it was never told of."""
    for n in range(5):
        fed.feed(f"j{n}")
    await fed.world.push(outgoing("lost"))
    await fed.session.fetch("q", 1)
    assert fed.beat().held["q"] > len(fed.source.claimed("q"))


async def test_settled_ones_are_forgotten(fed: Fed) -> None:
    claim = fed.feed("a")
    await fed.source.fetch(1)
    assert fed.source.size() == 1
    fed.source.settled("q", [claim.delivery])
    assert fed.source.size() == 0


async def test_a_restart_of_the_stages_keeps_what_was_not_given_back(fed: Fed) -> None:
    fed.feed("given back", write=True)
    await fed.world.clock.advance(1.0)
    here = fed.feed("here")
    fed.source.reset()
    assert await fed.source.fetch(5) == [here]

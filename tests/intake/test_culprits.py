"""One job that the store can't take: it alone is refused, whatever was sent beside it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._intake.client import Client, ClientSettings
from kiqpy.errors import KiqError, StoreRefused
from kiqpy.event import Event, FlushFailed, FlushRestored, JobRefused
from kiqpy.job import Job
from kiqpy.receipt import Receipt
from kiqpy.store import Frame, HungUp, OutgoingJob, Pushed
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock

pytestmark = pytest.mark.anyio

BAD = b"culprit"


class Picky:
    """A store in memory that can't take frames with some jobs: it hangs up, or says no."""

    def __init__(self, error: type[KiqError] | None) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.session = Session(MemoryBackend(self.server, "me:1:a"), self.clock)
        self.error = error
        self.frames: list[Frame[OutgoingJob]] = []
        self.late: list[Frame[OutgoingJob]] = []
        self.withdrawn = 0
        self.random: random.Random | None = None  # connections end at any time
        self.refuses_all = False
        self.events: list[Event] = []
        self.client = Client(self, self.clock, ClientSettings(), self.events.append)
        self.admission = Admission(AdmissionSettings(), self.clock)

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        self.frames.append(frame)
        if self.error and (self.refuses_all or any(BAD in each.payload for each in frame.items)):
            raise self.error("no")
        return await self._flaky(frame, self.session.push(frame))

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        self.withdrawn += 1
        if self.refuses_all:
            raise StoreRefused("nothing at all")
        return await self._flaky(None, self.session.withdraw(frame))

    async def _flaky(self, frame, call):  # type: ignore[no-untyped-def]
        chance = self.random.random() if self.random else 1.0
        if chance < 0.3:
            call.close()
            if frame is not None and chance < 0.1:
                self.late.append(frame)
            raise HungUp("ended before it came")
        result = await call
        if chance < 0.6:
            raise HungUp("ended after it came")
        if self.late and chance < 0.8:
            with suppress(KiqError):  # older than what came meanwhile, or withdrawn
                await self.session.push(self.late.pop())
        return result

    def outgoing(self, *names: str) -> list[OutgoingJob]:
        admitted = [self.admission.at_once(Job("noop", [name], jid=name)) for name in names]
        return [each for each in admitted if isinstance(each, OutgoingJob)]

    async def finish(self, pushing: asyncio.Future[list[Receipt]]) -> list[Receipt]:
        while not pushing.done():
            await self.clock.advance(1)
        return await pushing

    async def flush(self) -> None:
        flushing = asyncio.ensure_future(self.client.flush())
        while not flushing.done():
            await self.clock.advance(1)

    def stored(self) -> list[str]:
        return [json.loads(raw)["args"][0] for raw in reversed(self.server.queues["default"])]


@asynccontextmanager
async def picky(error: type[KiqError] | None) -> AsyncIterator[Picky]:
    it = Picky(error)
    await it.client.start()
    try:
        yield it
    finally:
        assert await it.client.stop() == 0
        assert it.client.snapshot() == (0, 0, 0, 0.0, None)


@pytest.mark.parametrize("bad", [0, 5, 7])
@pytest.mark.parametrize("error", [HungUp, StoreRefused])
async def test_one_bad_job_holds_up_no_other(error: type[KiqError], bad: int) -> None:
    """Seven stayed in the buffer beside it until a stop lost all eight; or all were refused."""
    names = [f"job-{n}" for n in range(8)]
    names[bad] = "culprit"
    async with picky(error) as it:
        for one in it.outgoing(*names):
            it.client.push_nowait(one)
        await it.flush()
        assert it.stored() == [name for name in names if name != "culprit"]
        [refused] = [event for event in it.events if isinstance(event, JobRefused)]
        assert refused.jid == "culprit"
        assert ("hangs up" in refused.error) == (error is HungUp)
        told = [type(event) for event in it.events if not isinstance(event, JobRefused)]
        assert told == ([FlushFailed, FlushRestored] if error is HungUp else [])


@pytest.mark.parametrize("error", [HungUp, StoreRefused])
async def test_who_pushes_many_learns_how_many_and_which_were_refused(
    error: type[KiqError],
) -> None:
    async with picky(error) as it:
        names = ["a", "culprit 1", "b", "c", "culprit 2"]
        pushing = asyncio.ensure_future(it.client.push(it.outgoing(*names)))
        beside = [asyncio.ensure_future(it.client.push(it.outgoing(name))) for name in "de"]
        with pytest.raises(StoreRefused, match="2 of 5 jobs: job culprit 1 is not enqueued"):
            await it.finish(pushing)
        assert [(await it.finish(one))[0].state for one in beside] == ["queued"] * 2
        assert it.stored() == list("abcde")


@pytest.mark.parametrize("error", [HungUp, StoreRefused])
async def test_an_atomic_group_is_refused_as_one_and_its_neighbours_are_not(
    error: type[KiqError],
) -> None:
    async with picky(error) as it:
        before = asyncio.ensure_future(it.client.push(it.outgoing("a")))
        group = it.outgoing("b", "culprit", "c")
        pushing = asyncio.ensure_future(it.client.push(group, atomic=True))
        after = asyncio.ensure_future(it.client.push(it.outgoing("d")))
        with pytest.raises(StoreRefused, match="3 of 3 jobs: job b is not enqueued"):
            await it.finish(pushing)
        for one in (before, after):
            await it.finish(one)
        assert it.stored() == ["a", "d"]


async def test_a_thousand_jobs_with_three_culprits() -> None:
    names = [f"{n}" for n in range(1500)]
    for n in (0, 700, 701):
        names[n] = f"culprit {n}"
    async with picky(HungUp) as it:
        for one in it.outgoing(*names):
            it.client.push_nowait(one)
        await it.flush()
        assert it.stored() == [name for name in names if "culprit" not in name]
        assert len(it.frames) < 120
        assert len(it.frames[-1].items) > 100, "larger frames are sent again afterwards"


async def test_a_store_that_takes_nothing_is_not_asked_for_each_job() -> None:
    async with picky(StoreRefused) as it:
        it.refuses_all = True
        with pytest.raises(StoreRefused, match="50 of 50 jobs"):
            await it.finish(
                asyncio.ensure_future(it.client.push(it.outgoing(*map(str, range(50)))))
            )
        assert (len(it.frames), it.withdrawn) == (1, 1)


async def test_a_few_hang_ups_doubt_nothing() -> None:
    async with picky(HungUp) as it:
        it.refuses_all = True
        pushing = asyncio.ensure_future(it.client.push(it.outgoing("a", "b")))
        while len(it.frames) < 2:
            await it.clock.advance(0.001)
        it.refuses_all = False
        assert [receipt.state for receipt in await it.finish(pushing)] == ["queued"] * 2
        assert it.withdrawn == 0
        assert len({frame.sequence for frame in it.frames}) == 1


@pytest.mark.parametrize("seed", range(60))
async def test_connections_that_end_at_any_time_lose_and_double_nothing(seed: int) -> None:
    """Withdrawn, divided, stored although nobody heard of it, arrived late: each job once."""
    names = [f"{n}" for n in range(30)]
    names[seed % 30] = "culprit"
    async with picky(HungUp) as it:
        it.random = random.Random(seed)
        for one in it.outgoing(*names):
            it.client.push_nowait(one)
            if it.random.random() < 0.2:
                await it.clock.advance(0.02)
        await it.flush()
        it.random = None
        stored = it.stored()
        assert sorted(stored) == sorted(set(stored)), "doubled"
        refused = [event.jid for event in it.events if isinstance(event, JobRefused)]
        assert sorted(stored + refused) == sorted(names)
        assert stored == [name for name in names if name in stored], "in order"
        assert refused == ["culprit"]

"""What this process puts off is promoted when it is due, whatever `poll_interval` is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kiqpy._flow.loop import Loop, LoopRunner
from kiqpy._loops.promote import SPACING_S, Promoter
from kiqpy._rules.clock_steps import ClockSteps
from kiqpy.outcome import Defer, Retry
from kiqpy.store import Frame, Heartbeat, OutgoingJob
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio
POLLS = (0.05, 1.0, 30.0, 300.0)
LATE_S = 0.02


def payload(n: int = 0) -> bytes:
    return b'{"class":"w","args":[%d],"queue":"q","jid":"j%d"}' % (n, n)


class Counted(Loop):
    """A loop whose ticks are counted."""

    def __init__(self, loop: Loop) -> None:
        self.ticks = 0
        self._loop = loop

    async def tick(self) -> float:
        self.ticks += 1
        return await self._loop.tick()


class Scene:
    """A process's half of a store in memory, and its promoter, in virtual time."""

    def __init__(self, poll_s: float) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        backend = MemoryBackend(self.server, "me")
        self.session = Session(backend, self.clock, places=("schedule", "retry"))
        self.session.beat(Heartbeat("{}", 5, False, 0, {}, 0, ("q",), 30.0))
        self.promoter = Counted(Promoter(self.session, poll_s))
        self.runner = LoopRunner(self.promoter, self.clock, unheard)
        self.session.on_put_off(lambda in_s: self.runner.wake_within(max(SPACING_S, in_s)))

    def queued(self) -> int:
        return len(self.server.queues["q"])

    async def push(self, n: int, *, in_s: float | None = None, at_s: float | None = None) -> None:
        frame = Frame("client", n, [OutgoingJob("q", f"j{n}", payload(n), in_s, at_s)],
                      made_at=self.clock.monotonic())  # fmt: skip
        assert (await self.session.push(frame))[0].state == "scheduled"

    async def claim(self) -> int:
        """The delivery id of a job that is claimed."""
        await self.session.push(Frame("other", 1, [OutgoingJob("q", "j", payload())]))
        (claim,) = await self.session.fetch("q", 1)
        return claim.delivery


def unheard(name: str, error: Exception) -> None:
    raise AssertionError(f"{name}: {error!r}")


@asynccontextmanager
async def scene(poll_s: float) -> AsyncIterator[Scene]:
    it = Scene(poll_s)
    task = asyncio.create_task(it.runner.run())
    await rest()
    yield it
    it.runner.stop()
    await rest()
    assert task.done()


async def put_off_by_push(it: Scene) -> None:
    await it.push(1, in_s=2.0)


async def put_off_to_an_instant(it: Scene) -> None:
    await it.push(1, at_s=it.clock.now() + 2.0)


async def retried(it: Scene) -> None:
    delivery = await it.claim()
    await it.session.settle(it.session.frame("q", [Retry(delivery, payload(), 2.0)]))


async def snoozed(it: Scene) -> None:
    delivery = await it.claim()
    await it.session.settle(it.session.frame("q", [Defer(delivery, payload(), 2.0)]))


@pytest.mark.parametrize("poll_s", POLLS)
@pytest.mark.parametrize("put_off", [put_off_by_push, put_off_to_an_instant, retried, snoozed])
async def test_what_this_process_puts_off_is_promoted_in_time(
    poll_s: float, put_off: Callable[[Scene], Awaitable[None]]
) -> None:
    async with scene(poll_s) as it:
        await put_off(it)
        await it.clock.advance(1.99)
        assert it.queued() == 0
        await it.clock.advance(0.01 + LATE_S)
        assert it.queued() == 1


@pytest.mark.parametrize("poll_s", POLLS)
async def test_what_others_put_off_is_at_most_a_poll_late(poll_s: float) -> None:
    async with scene(poll_s) as it:
        other = Session(MemoryBackend(it.server, "other"), it.clock)
        await other.push(Frame("o", 1, [OutgoingJob("q", "j", payload(), 0.01)]))
        await it.clock.advance(poll_s + LATE_S)
        assert it.queued() == 1


async def test_there_is_one_timer_and_it_is_for_the_soonest() -> None:
    async with scene(300.0) as it:
        for n, in_s in enumerate((50.0, 3.0, 20.0), 1):
            await it.push(n, in_s=in_s)
        for at, queued in ((3.0, 1), (20.0, 2), (50.0, 3)):
            await it.clock.advance(at + LATE_S - it.clock.monotonic())
            assert it.queued() == queued


async def test_many_that_are_due_one_after_another_cost_no_command_each() -> None:
    """As when a thousand jobs fail and are to be retried at once."""
    async with scene(300.0) as it:
        for n in range(1, 501):
            await it.push(n, in_s=n / 5000)
        before = it.promoter.ticks
        await it.clock.advance(0.1 + LATE_S)
        assert it.queued() == 500
        assert it.promoter.ticks - before < 60


async def test_a_clock_that_is_behind_the_stores_makes_no_job_late() -> None:
    """An instant is of the store's clock; its difference is known from the last look."""
    async with scene(300.0) as it:
        it.session._put_off.store_says(it.clock.now() + 7.0)
        told: list[float] = []
        it.session.on_put_off(told.append)
        await it.push(1, at_s=it.clock.now() + 10.0)
        assert told == [pytest.approx(3.0)]


async def test_a_server_clock_that_is_set_back_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene(1.0) as it:
        now, back_s = it.clock.now, 0.0

        class Set:
            def now(self) -> float:
                return now() - back_s

        await it.clock.advance(10)
        it.server.clock = Set()  # type: ignore[assignment]
        await it.clock.advance(10)
        assert not caplog.records
        back_s = 1800.0
        await it.clock.advance(60)
        (record,) = caplog.records
        assert record.message.startswith("the server's clock was set back by 1800 s: what waits")


def test_a_slow_answer_is_not_taken_for_a_clock_that_was_set_back() -> None:
    steps = ClockSteps()
    assert steps.back(now=1000.0, sent=0.0, received=0.1) == 0.0
    assert steps.back(now=1010.0, sent=10.0, received=60.0) == 0.0
    assert steps.back(now=1060.1, sent=60.1, received=60.2) == 0.0
    assert steps.back(now=1000.0, sent=70.0, received=70.1) == pytest.approx(69.9)
    assert steps.back(now=1001.0, sent=71.0, received=71.1) == 0.0

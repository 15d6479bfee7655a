"""Reporters have their own edges: none disturbs jobs or other reporters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

import pytest

from kiqpy import ConfigError, Job, Reporter
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy.event import (
    Event,
    JobAborted,
    JobFailure,
    JobStarted,
    JobStopped,
    JobSuccess,
    ReporterDetached,
)
from kiqpy.testing import rest
from tests.stages.harness import World

pytestmark = pytest.mark.anyio


def stopped(n: int) -> Event:
    return JobStopped(Job("noop", [n]))


class Hears(Reporter):
    """Writes down what it hears, as fast as its gate lets it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    async def handle_stopped(self, job: Job) -> None:
        await self.gate.wait()
        self.heard += job.args


class Short(Hears):
    limit: ClassVar[int] = 3


class Dropping(Short):
    overflow: ClassVar[Literal["block", "drop_oldest"]] = "drop_oldest"


@asynccontextmanager
async def telling(world: World) -> AsyncIterator[ReporterDispatcher]:
    dispatcher = world.dispatcher
    await dispatcher.start()
    try:
        yield dispatcher
    finally:
        for worker in dispatcher.workers:
            if isinstance(worker.reporter, Hears):
                worker.reporter.gate.set()
        await asyncio.wait_for(dispatcher.stop(), 5)


async def test_reporters_are_started_told_in_order_and_stopped_after_the_last_event() -> None:
    reporter = Hears()
    world = World(reporter)
    async with telling(world) as dispatcher:
        await dispatcher.emit([stopped(n) for n in range(5)])
        await dispatcher.emit([stopped(5)])
    assert reporter.heard == [0, 1, 2, 3, 4, 5]
    assert reporter.calls == ["start", "stop"]


async def test_block_holds_who_tells_until_there_is_room() -> None:
    reporter = Short()
    world = World(reporter)
    async with telling(world) as dispatcher:
        reporter.gate.clear()
        await dispatcher.emit([stopped(n) for n in range(3)])
        blocked = asyncio.create_task(dispatcher.emit([stopped(n) for n in range(3, 9)]))
        await rest()
        assert not blocked.done()
        reporter.gate.set()
        await blocked
    assert reporter.heard == list(range(9))


async def test_drop_oldest_never_holds_anybody_and_counts_what_it_dropped() -> None:
    reporter = Dropping()
    world = World(reporter)
    async with telling(world) as dispatcher:
        reporter.gate.clear()
        for n in range(50):
            await asyncio.wait_for(dispatcher.emit([stopped(n)]), 5)
            await rest()
        reporter.gate.set()
        await rest()
    [worker] = world.dispatcher.workers
    assert reporter.heard[0] == 0  # it was being handled
    assert reporter.heard[-1] == 49
    assert reporter.heard == sorted(reporter.heard)
    assert len(reporter.heard) + worker.dropped == 50
    assert 3 <= len(reporter.heard) <= 4


async def test_drop_oldest_of_more_events_than_it_can_hold_keeps_the_newest() -> None:
    reporter = Dropping()
    world = World(reporter)
    async with telling(world) as dispatcher:
        await dispatcher.emit([stopped(n) for n in range(10)])
        await rest()
        assert reporter.heard == [7, 8, 9]
        assert dispatcher.workers[0].dropped == 7
        reporter.gate.clear()
        await dispatcher.emit([stopped(n) for n in range(3)])
        await rest()
        await dispatcher.emit([stopped(n) for n in range(3)])
        reporter.gate.set()
        await rest()
        await dispatcher.emit([stopped(99)])
        await rest()
        assert reporter.heard[-1] == 99


class Raising(Reporter):
    """Raises what it is told to, for as long as there is something."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.calls = 0

    def handle_stopped(self, job: Job) -> None:
        self.calls += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error


ERRORS: list[BaseException] = [
    ValueError("no"), TimeoutError("of its own"), asyncio.CancelledError(), SystemExit(1),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
async def test_five_errors_in_a_row_detach_it_and_no_other(error: BaseException) -> None:
    reporter, other = Raising(*[error] * 99), Hears()
    world = World(reporter, other)
    async with telling(world) as dispatcher:
        for n in range(9):
            await dispatcher.emit([stopped(n)])
            await rest()
            assert dispatcher.workers[0].detached == (n >= 4)
    assert reporter.calls == 5
    assert other.heard == list(range(9))
    [event] = world.told(ReporterDetached)
    assert event.reporter == "Raising"
    assert event.reason == f"5 errors in a row, the last: {error!r}"


async def test_a_good_event_in_between_begins_the_count_again() -> None:
    reporter = Raising(*[ValueError("no")] * 4, None, *[ValueError("no")] * 4)
    world = World(reporter)
    async with telling(world) as dispatcher:
        await dispatcher.emit([stopped(n) for n in range(12)])
    assert reporter.calls == 12
    assert world.told(ReporterDetached) == []


class Stalled(Short):
    stall_timeout: ClassVar[float] = 0.01


async def test_a_stalled_reporter_is_detached_and_who_was_blocked_goes_on() -> None:
    reporter, other = Stalled(), Hears()
    world = World(reporter, other)
    async with telling(world) as dispatcher:
        reporter.gate.clear()
        for n in range(20):
            await asyncio.wait_for(dispatcher.emit([stopped(n)]), 5)
        assert dispatcher.workers[0].detached
    assert reporter.heard == []
    assert other.heard == list(range(20))
    [event] = world.told(ReporterDetached)
    assert event.reason == "one handler took longer than 0.01 s"


async def test_a_reporter_whose_stop_raises_does_not_keep_the_others_from_stopping() -> None:
    class Bad(Reporter):
        async def stop(self) -> None:
            raise ValueError("no")

    other = Hears()
    world = World(Bad(), other)
    async with telling(world):
        pass
    assert other.calls == ["start", "stop"]
    assert "stop raised ValueError" in world.told(ReporterDetached)[0].reason


async def test_a_reporter_that_was_never_started_is_not_stopped() -> None:
    reporter = Hears()
    await World(reporter).dispatcher.stop()
    assert reporter.calls == []


class Batched(Reporter):
    """Hears all that waits at once; raises while it is told to."""

    batches = True
    limit: ClassVar[int] = 5

    def __init__(self, failures: int = 0) -> None:
        self.heard: list[list[Any]] = []
        self.failures = failures

    def handle_many(self, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("no")
        self.heard.append([event.job.args[0] for event in events if isinstance(event, JobStopped)])


async def test_batches_hold_all_that_waits_in_order() -> None:
    reporter, other = Batched(), Hears()
    world = World(reporter, other)
    async with telling(world) as dispatcher:
        await dispatcher.emit([stopped(n) for n in range(2)])
        await dispatcher.emit([stopped(2)])
        await rest()
        await dispatcher.emit([stopped(n) for n in range(3, 20)])  # more than it holds at once
    assert reporter.heard[0] == [0, 1, 2]
    assert [n for batch in reporter.heard for n in batch] == list(range(20)) == other.heard
    assert max(map(len, reporter.heard)) <= 5
    assert world.dispatcher.workers[0].edge.demand() == 5


async def test_a_batch_that_raises_is_one_error() -> None:
    reporter, other = Batched(failures=5), Hears()
    world = World(reporter, other)
    async with telling(world) as dispatcher:
        for n in range(9):
            await dispatcher.emit([stopped(2 * n), stopped(2 * n + 1)])
            await rest()
            assert dispatcher.workers[0].detached == (n >= 4)
    assert reporter.heard == []
    assert other.heard == list(range(18))


def test_batches_without_handle_many_are_refused() -> None:
    class Half(Reporter):
        batches = True

    with pytest.raises(ConfigError, match=r"Half.batches is True: override handle_many, too"):
        World(Half())


class Everything(Reporter):
    """Overrides every handler."""

    def handle_started(self, job: Job) -> None: ...
    async def handle_success(self, job: Job, meta: JobSuccess) -> None: ...
    def handle_aborted(self, job: Job, meta: JobAborted) -> None: ...
    def handle_failure(self, job: Job, error: BaseException, meta: JobFailure) -> None: ...
    def handle_stopped(self, job: Job) -> None: ...


class Heir(Raising):
    """Overrides nothing itself."""


KINDS = {JobStarted, JobSuccess, JobAborted, JobFailure, JobStopped}


def test_only_overridden_handlers_are_heard() -> None:
    assert Reporter().listens_to() == frozenset()
    assert Raising().listens_to() == {JobStopped}
    assert Heir().listens_to() == {JobStopped}
    assert Everything().listens_to() == KINDS == Batched().listens_to()


async def test_what_nobody_hears_is_known() -> None:
    world = World(Raising())
    world.bus.detach(world.events.append)
    assert world.dispatcher.has_listeners(JobStopped)
    assert not world.dispatcher.has_listeners(JobSuccess)
    world.bus.attach("job.suc*", world.events.append)
    assert world.dispatcher.has_listeners(JobSuccess)


async def test_a_handler_on_the_bus_that_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    def breaks(event: Event) -> None:
        raise ValueError("no")

    world.bus.attach("job.*", breaks)
    world.bus.attach("job.*", world.events.append)
    await world.dispatcher.emit([stopped(1)])
    assert len(world.events) == 2  # attached twice, called twice
    assert "a handler of job.stopped raised" in caplog.text

"""The lifecycle by itself: a real engine on a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kiqpy import App, ConfigError, LifecycleError, Reporter, StoreUnavailable
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._runtime.assembly import EngineOwner
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.lifecycle import Lifecycle
from kiqpy._runtime.state import State
from kiqpy.config import Config
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest
from kiqpy.testing._sandbox.heartbeat import TimerHeartbeat
from tests.faults import Faults, Faulty

pytestmark = pytest.mark.anyio


class Builder:
    """Makes engines on one memory server; counts what is open."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.faults = Faults()
        self.bus = Bus()
        self.reporters: list[Reporter] = []
        self.open = self.built = 0
        self.fail: BaseException | None = None
        self._options = options

    async def build(self, owner: EngineOwner, server: bool | None) -> Engine:
        self.open += 1
        self.built += 1
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        backend = MemoryBackend(self.server, f"me:1:{self.built}")
        session = Session(Faulty(backend, self.faults), self.clock)
        return Engine(
            config=Config(**self._options).replace(server=server is not False),
            registry=Registry(()),
            reporters=self.reporters,
            parts=EngineParts(session, heartbeat=TimerHeartbeat),
            bus=self.bus,
            clock=self.clock,
            on_failure=owner.on_failure,
            on_signal=owner.on_signal,
        )

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.open = 0


def made(**options: Any) -> tuple[Lifecycle, Builder]:
    builder = Builder(**options)
    return Lifecycle("Jobs", builder), builder


async def passing(clock: FakeClock, run: Any, seconds: float = 60) -> Any:
    """What it returns, while time passes."""
    task = asyncio.ensure_future(run)
    await clock.advance(seconds)
    return await task


class Stuck(Reporter):
    """Its stop hangs, so that a stop of the app takes a while."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.Event().wait()


async def test_it_goes_through_its_states_and_may_go_again() -> None:
    it, builder = made()
    assert it.state is State.NEW
    for _ in range(2):
        starting = asyncio.ensure_future(it.start())
        await asyncio.sleep(0)
        assert it.state is State.STARTING
        await starting
        assert it.state is State.RUNNING
        assert it.running() is it.engine
        stopping = asyncio.ensure_future(it.stop())
        await asyncio.sleep(0)
        assert it.state is State.STOPPING
        assert it.engine is None
        await passing(builder.clock, stopping)
        assert it.state is State.STOPPED
    assert (builder.built, builder.open) == (2, 0)


async def test_before_the_start_and_after_the_stop_there_is_no_engine() -> None:
    it, builder = made()
    await it.stop()
    assert it.state is State.NEW
    for _ in range(2):
        with pytest.raises(LifecycleError, match="Jobs is not started: use `async with app:`"):
            it.running()
        with pytest.raises(LifecycleError, match="is not started"):
            await it.wait_stopped()
        await it.start()
        await passing(builder.clock, it.stop())
    await it.stop()
    assert it.state is State.STOPPED


@pytest.mark.parametrize("place", ["build", "beat"])
async def test_a_start_that_fails_leaves_nothing(place: str) -> None:
    it, builder = made()
    error: Exception = ValueError("no")
    if place == "build":
        builder.fail = error
    else:
        builder.faults.fail("beat", "before")
        error = StoreUnavailable()
    with pytest.raises(type(error)):
        await passing(builder.clock, it.start())
    assert it.state is State.STOPPED
    assert builder.open == 0
    builder.fail = None
    await it.start()
    await passing(builder.clock, it.stop())


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    it, builder = made()
    for turns in range(12):
        starting = asyncio.ensure_future(it.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await builder.clock.advance(60)
        await asyncio.gather(starting, return_exceptions=True)
        if it.engine is not None:  # it was faster
            await passing(builder.clock, it.stop())
        else:
            assert it.state in (State.NEW, State.STOPPED)
        assert builder.open == 0
        assert builder.server.leases == {}
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any(name.startswith("kiqpy:") for name in names), names


async def test_a_grace_that_is_none_is_refused_and_the_app_runs_on() -> None:
    """The engine was taken away first: it could not be stopped any more."""
    it, builder = made()
    await it.start()
    with pytest.raises(ConfigError, match="grace='soon'"):
        await it.stop("soon")  # type: ignore[arg-type]
    assert it.state is State.RUNNING
    await passing(builder.clock, it.stop())
    assert builder.open == 0


async def test_a_second_stop_returns_when_the_first_does() -> None:
    """It returned at once, while the app still ran."""
    it, builder = made()
    builder.reporters.append(stuck := Stuck())
    await it.start()
    first = asyncio.ensure_future(it.stop())
    await stuck.stopping.wait()
    second = asyncio.ensure_future(it.stop())
    await rest()
    assert not second.done()
    await builder.clock.advance(30)
    await asyncio.gather(first, second)
    assert it.state is State.STOPPED


@pytest.mark.parametrize("cancelled", ["first", "second", "both"])
async def test_a_stop_that_is_cancelled_comes_to_its_end_and_frees_all(cancelled: str) -> None:
    """What the start had built, such as the embedded server, was never closed."""
    it, builder = made()
    builder.reporters.append(stuck := Stuck())
    await it.start()
    first = asyncio.ensure_future(it.stop())
    await stuck.stopping.wait()
    second = asyncio.ensure_future(it.stop())
    await rest()
    for name, task in (("first", first), ("second", second)):
        if cancelled in (name, "both"):
            task.cancel()
    await rest()
    assert it.state is State.STOPPING
    await builder.clock.advance(30)
    ends = await asyncio.gather(first, second, return_exceptions=True)
    was_cancelled = [isinstance(end, asyncio.CancelledError) for end in ends]
    assert was_cancelled == [cancelled in ("first", "both"), cancelled in ("second", "both")]
    assert it.state is State.STOPPED
    assert builder.open == 0
    assert it.ending.is_set()
    await it.start()
    await passing(builder.clock, it.stop())


# -- failures and signals


async def test_a_failure_is_kept_until_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    it, builder = made()
    await it.start()
    waiting = asyncio.ensure_future(it.wait_stopped())
    it.on_failure(ValueError("first"))
    it.on_failure(ValueError("second"))
    assert it.state is State.FAILED
    with pytest.raises(ValueError, match="first"):
        await waiting
    assert "Jobs is broken and must be stopped" in caplog.text
    assert it.running() is it.engine
    await passing(builder.clock, it.stop())
    assert it.state is State.STOPPED
    with pytest.raises(ValueError, match="first"):
        it.raise_failure()
    await it.start()
    it.raise_failure()
    assert it.state is State.RUNNING
    await passing(builder.clock, it.stop())


async def test_a_failure_during_the_start_counts() -> None:
    it, builder = made()
    starting = asyncio.ensure_future(it.start())
    await asyncio.sleep(0)
    it.on_failure(ValueError("early"))
    await starting
    assert it.state is State.FAILED
    with pytest.raises(ValueError, match="early"):
        await it.wait_stopped()
    await passing(builder.clock, it.stop())


async def test_signals_quiet_the_app_and_wake_who_waits() -> None:
    it, builder = made()
    it.on_signal("TSTP")  # not started: nothing to quiet
    await it.start()
    for name, quiet in (("TSTP", True), ("CONT", False)):
        it.on_signal(name)
        await rest()
        assert it.running().pipelines.is_quiet is quiet
    waiting = asyncio.ensure_future(it.wait_stopped())
    await rest()
    assert not waiting.done()
    it.on_signal("TERM")
    await waiting
    assert it.state is State.RUNNING
    await passing(builder.clock, it.stop())


async def test_a_stop_from_afar_quiets_an_app_that_nobody_waits_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it, builder = made()
    await it.start()
    it.on_signal("TERM")
    await rest()
    assert it.running().pipelines.is_quiet
    assert "an operator told" in caplog.text
    await asyncio.wait_for(it.wait_stopped(), 10)
    await passing(builder.clock, it.stop())


async def test_who_waits_for_a_stop_from_afar_decides_what_becomes_of_the_jobs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it, builder = made()
    await it.start()
    waiting = asyncio.ensure_future(it.wait_stopped())
    await rest()
    it.on_signal("TERM")
    await waiting
    assert not it.running().pipelines.is_quiet
    assert "from afar" not in caplog.text
    await passing(builder.clock, it.stop())


async def test_an_app_says_what_its_lifecycle_says() -> None:
    jobs = App(test_mode="sandbox")
    checks: list[Callable[[], object]] = [lambda: jobs.client, lambda: jobs.store]
    for check in checks:
        with pytest.raises(LifecycleError, match="App is not started"):
            check()
    async with jobs:
        assert jobs.started
        assert jobs.failure is None
        for check in checks:
            check()
    assert not jobs.started

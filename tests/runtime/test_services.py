"""One contract for everything that starts and stops, held to by every service in every order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiqpy import App, LifecycleError, Reporter
from kiqpy._flow.loop import Loop
from kiqpy._flow.service import Service
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._intake.client import Client, ClientSettings
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.effects import DEFAULT_EFFECTS
from kiqpy._runtime.capacity import Capacity
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.heartbeat import HeartbeatSettings, HeartbeatThread
from kiqpy._runtime.loops import LoopSet
from kiqpy._runtime.pipelines import Pipelines
from kiqpy.clock import SystemClock
from kiqpy.config import Config
from kiqpy.errors import KiqError
from kiqpy.event import LoopLag
from kiqpy.outcome import Outcome
from kiqpy.queues import Queue
from kiqpy.store import Heartbeat, HeartbeatReply, Store
from kiqpy.store._session import Session
from kiqpy.store.embedded.server import EmbeddedServer
from kiqpy.store.redis.backend import RedisBackend
from kiqpy.testing._sandbox.heartbeat import TimerHeartbeat
from kiqpy.testing._sandbox.server import PrivateServer
from tests.eventually import eventually
from tests.faults import Faults, Faulty
from tests.server import TestServer

pytestmark = pytest.mark.anyio

_WITHIN_S = 20.0
_MAX_AWAITS = 200  # more than any start or stop has


class Broken(RuntimeError):
    """What a start raises here that is to fail."""


class BrokenReporter(Reporter):
    async def start(self) -> None:
        await asyncio.sleep(0)
        raise Broken


class BrokenQueue(Queue):
    def source(self, sources: Any) -> Any:
        raise Broken


def broken_loops() -> Iterable[Loop]:
    raise Broken


class Place:
    """Where a service runs: a store on a real server, and whoever a part reports to."""

    def __init__(self, server: TestServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.clock = SystemClock()
        self.bus = Bus()
        self.faults = Faults()
        self.store: Store = self.make_store()
        self.failures: list[BaseException] = []

    def make_store(self) -> Store:
        ident = f"me:{os.getpid()}:{self.clock.token(6)}"
        backend = RedisBackend(self.server.url, ident, clock=self.clock)
        return Session(Faulty(backend, self.faults), self.clock)

    # -- Monitor, HeartbeatOwner, EngineOwner

    def heartbeat(self) -> Heartbeat:
        return Heartbeat("{}", 1, False, 0, {}, 0, ("default",), 30.0)

    def on_reply(self, reply: HeartbeatReply) -> None: ...

    def on_lease_lost(self) -> None: ...

    def on_lag(self, lag: LoopLag) -> None: ...

    def on_error(self, queue: str, error: Exception) -> None: ...
    def on_recovery(self, queue: str) -> None: ...

    def on_pause(self, queue: str, paused: bool) -> None: ...

    def on_signal(self, name: str) -> None: ...

    def on_failure(self, error: BaseException) -> None:
        self.failures.append(error)


async def _unused(run: Any) -> Outcome:
    raise AssertionError(run)


# -- the services, and how the start of each may fail


def client(at: Place) -> Service:
    return Client(at.store, at.clock, ClientSettings(), at.bus.emit, at.on_failure)


def dispatcher(at: Place) -> Service:
    return ReporterDispatcher([Reporter(), Reporter()], at.bus)


def broken_dispatcher(at: Place) -> Service:
    return ReporterDispatcher([Reporter(), BrokenReporter()], at.bus)


def _loops(at: Place, **options: Any) -> Service:
    admission = Admission(AdmissionSettings(), at.clock)
    return LoopSet(Config(), at.store, at.bus, at.clock, admission, **options)


def loops(at: Place) -> Service:
    return _loops(at)


def loops_broken(at: Place) -> Service:
    return _loops(at, more=broken_loops)


def _pipelines(at: Place, *specs: Queue) -> Service:
    return Pipelines(
        specs=specs,
        perform=_unused,
        store=at.store,
        dispatcher=ReporterDispatcher([], at.bus),
        clock=at.clock,
        monitor=at,
        effects_of=DEFAULT_EFFECTS,
        capacity=Capacity((), threads=1, processes=1),
    )


def pipelines(at: Place) -> Service:
    return _pipelines(at, Queue(1, "a"), Queue(1, "b"))


def broken_pipelines(at: Place) -> Service:
    return _pipelines(at, Queue(1, "a"), BrokenQueue(1, "b"))


def heartbeat_thread(at: Place) -> Service:
    return HeartbeatThread(at.store, at.clock, HeartbeatSettings(0.01), at)


def broken_heartbeat_thread(at: Place) -> Service:
    at.faults.fail("beat", "after")
    return heartbeat_thread(at)


def timer_heartbeat(at: Place) -> Service:
    return TimerHeartbeat(at.store, at.clock, HeartbeatSettings(0.01), at)


def broken_timer_heartbeat(at: Place) -> Service:
    at.faults.fail("beat", "after")
    return timer_heartbeat(at)


def _engine(at: Place, *reporters: Reporter) -> Service:
    return Engine(
        config=Config(heartbeat_interval=0.1),
        registry=Registry(()),
        reporters=reporters,
        parts=EngineParts(at.make_store()),
        bus=at.bus,
        clock=at.clock,
        on_failure=at.on_failure,
        on_signal=at.on_signal,
    )


def engine(at: Place) -> Service:
    return _engine(at)


def broken_engine(at: Place) -> Service:
    return _engine(at, Reporter(), BrokenReporter())


def app(at: Place) -> Service:
    return App(redis_url=at.server.url, heartbeat_interval=0.1)


def broken_app(at: Place) -> Service:
    return App(redis_url=at.server.url, reporters=[BrokenReporter])


def embedded(at: Place) -> Service:
    return EmbeddedServer(at.folder / "embedded")


def broken_embedded(at: Place) -> Service:
    (at.folder / "embedded").write_text("a file where the directory should be")
    return embedded(at)


def private_server(_at: Place) -> Service:
    return PrivateServer()


@dataclass(frozen=True)
class Case:
    """A service, and one like it whose start fails."""

    make: Callable[[Place], Service]
    broken: Callable[[Place], Service] | None = None
    once: bool = False

    def __str__(self) -> str:
        return self.make.__name__


CASES = [
    Case(client),
    Case(dispatcher, broken_dispatcher),
    Case(loops, loops_broken),
    Case(pipelines, broken_pipelines),
    Case(heartbeat_thread, broken_heartbeat_thread),
    Case(timer_heartbeat, broken_timer_heartbeat),
    Case(engine, broken_engine, once=True),
    Case(app, broken_app),
    Case(embedded, broken_embedded),
    Case(private_server),
]
every_service = pytest.mark.parametrize("case", CASES, ids=str)


# -- nothing is left


def remains(server: TestServer) -> Counter[str]:
    """What there is now of all that a service could leave: in this process, and on its server."""
    gc.collect()
    current = asyncio.current_task()
    tasks = [repr(task) for task in asyncio.all_tasks() if task is not current]
    pool = ("asyncio_", "AnyIO worker")  # the loop keeps them for the next call, and ends them
    threads = [t.name for t in threading.enumerate() if not t.name.startswith(pool)]
    leases = [key for key in _keys(server) if key.startswith(("kiq:lease", "kiq:leader"))]
    members = server.cli("SMEMBERS", "processes")
    assert isinstance(members, list)
    return Counter([*tasks, *threads, *_open_files(), *leases, *map(str, members)])


def _open_files() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            yield os.readlink(f"/proc/self/fd/{number}")


def _keys(server: TestServer) -> list[str]:
    found = server.cli("KEYS", "*")
    assert isinstance(found, list)
    return [str(key) for key in found]


@asynccontextmanager
async def nothing_left(at: Place) -> AsyncIterator[None]:
    """Fails if the block leaves a task, a thread, a descriptor or a lease behind."""
    before = remains(at.server)
    yield
    await at.store.close()
    left = Counter[str]()

    def nothing() -> bool:
        left.clear()
        left.update(remains(at.server) - before)
        return not left

    try:
        await eventually(nothing, "the end of the service", _WITHIN_S)
    except AssertionError:
        pytest.fail(f"the service has left {sorted(left)}")
    assert not at.failures


@pytest.fixture
def at(clean: TestServer, tmp_path: Path) -> Place:
    return Place(clean, tmp_path)


# -- cancelled at each await


class Cancelled:
    """Awaits a call, and has it cancelled where it waits for the n-th time."""

    def __init__(self, run: Coroutine[Any, Any, object], n: int) -> None:
        self._run = run
        self._n = n
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        error: BaseException | None = None
        for n in range(1, _MAX_AWAITS):
            try:
                waits_for = self._run.throw(error) if error else self._run.send(None)
            except StopIteration as end:
                return end.value
            if n == self._n:
                self.reached = True
                _cancel_this_task()
            error = None
            try:
                yield waits_for
            except BaseException as raised:
                error = raised
        raise AssertionError(f"more than {_MAX_AWAITS} awaits")


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancelled(run: Coroutine[Any, Any, object], n: int) -> tuple[bool, bool]:
    """Whether the call waited for the n-th time, and whether CancelledError was raised then."""
    it = Cancelled(run, n)

    async def in_a_task() -> None:
        await it

    task = asyncio.ensure_future(in_a_task())
    await asyncio.wait({task})
    if task.cancelled():
        return it.reached, True
    task.result()
    return it.reached, False


# -- the contract


@every_service
async def test_it_starts_and_stops(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.start()
        await it.stop()


@every_service
async def test_a_stop_before_the_start_changes_nothing(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.stop()
        await it.start()
        await it.stop()


@every_service
async def test_a_second_start_is_refused_and_the_first_goes_on(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.start()
        with pytest.raises(LifecycleError, match="is started already; stop it first"):
            await it.start()
        await it.stop()


@every_service
async def test_of_two_starts_at_once_one_is_refused(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        ends = await asyncio.gather(it.start(), it.start(), return_exceptions=True)
        assert [type(end) for end in ends] == [type(None), LifecycleError]
        await it.stop()


@every_service
async def test_stops_again_and_at_once(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.start()
        await asyncio.gather(it.stop(), it.stop(), it.stop())
        await it.stop()


@every_service
async def test_a_stop_during_the_start_is_refused(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        starting = asyncio.ensure_future(it.start())
        await asyncio.sleep(0)
        if not starting.done():
            with pytest.raises(LifecycleError, match=r"is still starting: cancel its start\(\)"):
                await it.stop()
        await starting
        await it.stop()


@every_service
async def test_a_start_during_the_stop_is_refused(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.start()
        stopping = asyncio.ensure_future(it.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        with pytest.raises(LifecycleError, match=r"is still stopping: await its stop\(\) first"):
            await it.start()
        await stopping


@every_service
async def test_a_start_after_the_stop_works_or_says_why_not(case: Case, at: Place) -> None:
    async with nothing_left(at):
        it = case.make(at)
        await it.start()
        await it.stop()
        if case.once:
            with pytest.raises(LifecycleError, match="does not start again: make another"):
                await it.start()
            return
        for _ in range(2):
            await it.start()
            await it.stop()


@every_service
@pytest.mark.slow
async def test_a_start_cancelled_at_each_await_leaves_nothing(case: Case, at: Place) -> None:
    for n in range(1, _MAX_AWAITS):
        async with nothing_left(at):
            it = case.make(at)
            reached, was_cancelled = await cancelled(it.start(), n)
            if not was_cancelled:  # it had come to its end
                await it.stop()
        await it.stop()
        if not reached:
            return


@every_service
@pytest.mark.slow
async def test_a_stop_cancelled_at_each_await_comes_to_its_end(case: Case, at: Place) -> None:
    for n in range(1, _MAX_AWAITS):
        async with nothing_left(at):
            it = case.make(at)
            await it.start()
            reached, was_cancelled = await cancelled(it.stop(), n)
            assert reached == was_cancelled
        await it.stop()
        if not reached:
            return


@pytest.mark.parametrize("case", [case for case in CASES if case.broken], ids=str)
async def test_a_start_that_fails_undoes_what_it_began(case: Case, at: Place) -> None:
    assert case.broken is not None
    async with nothing_left(at):
        it = case.broken(at)
        with pytest.raises((Broken, KiqError)) as caught:
            await it.start()
        assert not isinstance(caught.value, LifecycleError)
        await it.stop()

"""Reporters in a running app: every job is settled, and before its reporters are called."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, ClassVar, Literal

import pytest

from kiqpy import App, ConfigError, Discard, Job, Reporter, worker
from kiqpy.event import JobAborted, JobFailure, JobSuccess, ReporterDetached
from kiqpy.middleware import Next, ServerMiddleware
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ran: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


@worker
async def note(n: int) -> None:
    ran.append(n)


@worker
async def unwanted() -> Discard:
    return Discard("not today")


@worker(retry=0)
async def bad() -> None:
    raise ValueError("no")


WORKERS = [note, unwanted, bad]


def app(server: TestServer, *reporters: Any, limit: int = 25, **options: Any) -> App:
    return App(
        redis_url=server.url, workers=WORKERS, queues={"default": limit}, reporters=reporters,
        **options,
    )  # fmt: skip


def count(server: TestServer, *command: str) -> int:
    return int(str(server.cli(*command) or 0))


def settled(server: TestServer) -> int:
    return count(server, "GET", "stat:processed")


def all_settled(server: TestServer, n: int) -> bool:
    return settled(server) == n and held(server) == 0


def held(server: TestServer) -> int:
    """How many jobs are claimed and not settled."""
    names = server.cli("KEYS", "kiq:private|*")
    assert isinstance(names, list)
    return sum(count(server, "HLEN", str(name)) for name in names)


class Hears(Reporter):
    """Writes down all that it is told, through handlers that are async or not."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def handle_started(self, job: Job) -> None:
        self.heard.append(("started", job.class_))

    async def handle_success(self, job: Job, meta: JobSuccess) -> None:
        await asyncio.sleep(0)
        assert meta.took_s >= 0
        assert meta.waited_s is not None
        self.heard.append(("success", job.class_))

    def handle_aborted(self, job: Job, meta: JobAborted) -> None:
        self.heard.append(("aborted", meta.reason))

    async def handle_failure(self, job: Job, error: BaseException, meta: JobFailure) -> None:
        self.heard.append(("failure", (repr(error), meta.retry_in_s)))

    async def handle_stopped(self, job: Job) -> None:
        self.heard.append(("stopped", job.class_))


class Counts(Reporter):
    """Counts the ends of runs."""

    def __init__(self) -> None:
        self.stopped = 0

    def handle_stopped(self, job: Job) -> None:
        self.stopped += 1


async def test_each_kind_of_end_is_heard_and_stopped_comes_last(clean: TestServer) -> None:
    reporter = Hears()
    async with app(clean, reporter, limit=1) as jobs:
        for n, job in enumerate((note.new(1), unwanted.new(), bad.new())):
            await jobs.enqueue(job)
            heard_all = partial(lambda most: len(reporter.heard) == most, 3 * n + 3)
            await eventually(heard_all, "three events a job")
    assert reporter.heard == [
        ("started", "note"), ("success", "note"), ("stopped", "note"),
        ("started", "unwanted"), ("aborted", "not today"), ("stopped", "unwanted"),
        ("started", "bad"), ("failure", ("ValueError('no')", None)), ("stopped", "bad"),
    ]  # fmt: skip


async def test_success_heard_is_success_durable(clean: TestServer) -> None:
    seen: list[tuple[int, int]] = []

    class Checks(Reporter):
        def handle_success(self, job: Job, meta: JobSuccess) -> None:
            seen.append((settled(clean), held(clean)))

    async with app(clean, Checks) as jobs:
        await jobs.enqueue(note.new(1))
        await eventually(lambda: seen, "the success")
    assert seen == [(1, 0)]


# -- those that raise


class Raises(Reporter):
    def handle_stopped(self, job: Job) -> None:
        raise ValueError("no")


class RaisesLater(Reporter):
    async def handle_stopped(self, job: Job) -> None:
        await asyncio.sleep(0)
        raise ValueError("no")


@pytest.mark.parametrize("kind", [Raises, RaisesLater])
async def test_one_that_raises_five_times_is_detached_and_every_job_is_settled(
    clean: TestServer, kind: type[Reporter]
) -> None:
    told: list[ReporterDetached] = []
    other = Counts()
    jobs = app(clean, kind, other)
    jobs.attach("reporter.detached", told.append)
    async with jobs:
        await jobs.enqueue_many([note.new(n) for n in range(300)])
        await eventually(lambda: all_settled(clean, 300), "every ack")
    assert [(event.reporter, event.reason) for event in told] == [
        (kind.__name__, "5 errors in a row, the last: ValueError('no')")
    ]
    assert other.stopped == 300


# -- those that hang


class Hangs(Reporter):
    """Never comes back from its first event."""

    stall_timeout: ClassVar[float] = 0.5

    async def handle_stopped(self, job: Job) -> None:
        await asyncio.Event().wait()


def _note_settled(server: TestServer, notes: list[int], _event: ReporterDetached) -> None:
    notes.append(settled(server))


async def test_one_that_hangs_holds_up_no_settling_and_is_detached(clean: TestServer) -> None:
    """All of 300 jobs are settled while it hangs; best of three, for the machine may be busy."""
    for _ in range(3):
        clean.cli("FLUSHALL")
        settled_when_told: list[int] = []
        jobs = app(clean, Hangs)
        jobs.attach("reporter.detached", partial(_note_settled, clean, settled_when_told))
        async with jobs:
            await jobs.enqueue_many([note.new(n) for n in range(300)])
            await eventually(partial(len, settled_when_told), "its end")
            await eventually(lambda: all_settled(clean, 300), "every ack")
        if settled_when_told == [300]:
            return
    raise AssertionError(f"when it was detached, {settled_when_told} of 300 jobs were settled")


class HangsShort(Hangs):
    limit: ClassVar[int] = 10


async def test_one_that_hangs_with_a_short_queue_slows_the_fetch_only_until_it_is_detached(
    clean: TestServer,
) -> None:
    told: list[ReporterDetached] = []
    jobs = app(clean, HangsShort)
    jobs.attach("reporter.detached", told.append)
    async with jobs:
        await jobs.enqueue_many([note.new(n) for n in range(300)])
        await eventually(lambda: all_settled(clean, 300), "every ack")
    assert [event.reason for event in told] == ["one handler took longer than 0.5 s"]


# -- those that are slow


class Slow(Counts):
    """Handles events only while its gate is open."""

    limit: ClassVar[int] = 10
    stall_timeout: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def handle_stopped(self, job: Job) -> None:
        await self.gate.wait()
        self.stopped += 1


async def test_with_block_the_fetch_falls_to_its_pace_and_what_ran_is_settled(
    clean: TestServer,
) -> None:
    slow = Slow()
    ahead: list[int] = []
    jobs = app(clean, slow, limit=5)
    jobs.attach("job.started", lambda _event: ahead.append(len(ran) - slow.stopped))
    async with jobs:
        await jobs.enqueue_many([note.new(n) for n in range(100)])
        await eventually(lambda: blocked(clean, slow), "the fetch to stop, and all that ran acked")
        slow.gate.set()
        await eventually(lambda: all_settled(clean, 100), "every ack")
    assert len(ran) == slow.stopped == 100
    assert slow.limit < max(ahead) <= slow.limit + 10  # two batches: one to be told, one that runs


def blocked(server: TestServer, slow: Slow) -> bool:
    """All that ran is settled, and more waits than can be told: nothing else is to happen."""
    n = len(ran)
    return n > slow.limit and settled(server) == n and held(server) == 0


class SlowDropping(Counts):
    """A hundredth of a second for each event."""

    limit: ClassVar[int] = 20
    overflow: ClassVar[Literal["block", "drop_oldest"]] = "drop_oldest"

    async def handle_stopped(self, job: Job) -> None:
        await asyncio.sleep(0.01)
        self.stopped += 1


JOBS = 1500


async def drain_s(server: TestServer, *reporters: Reporter) -> tuple[float, int]:
    """How long it takes to settle `JOBS` jobs, and how many events were dropped."""
    server.cli("FLUSHALL")
    async with app(server, *reporters).client_only() as jobs:
        await jobs.enqueue_many([note.new(n) for n in range(JOBS)], atomic=False)
    async with app(server, *reporters) as jobs:
        began = time.perf_counter()
        await eventually(lambda: all_settled(server, JOBS), "every ack")
        took_s = time.perf_counter() - began
        assert jobs._lifecycle.engine is not None
        workers = jobs._lifecycle.engine.dispatcher.workers
    return took_s, sum(worker.dropped for worker in workers)


@pytest.mark.slow
async def test_with_drop_oldest_the_throughput_stays_and_what_is_dropped_is_counted(
    clean: TestServer,
) -> None:
    """Side by side, in turn; each side's best of three."""
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(3):
        alone.append((await drain_s(clean))[0])
        reporter = SlowDropping()
        took_s, dropped = await drain_s(clean, reporter)
        beside.append(took_s)
        assert reporter.stopped + dropped == JOBS
        assert dropped > JOBS / 2
    print(f"{JOBS} jobs: {min(alone):.3f} s alone, {min(beside):.3f} s beside a slow reporter")
    assert min(beside) < 2 * min(alone) + 0.1
    assert min(beside) < 0.01 * JOBS / 3  # it would take a hundredth of a second a job to hear all


# -- beginning and end


class Life(Counts):
    """Its start and stop are what it is told to do."""

    calls: ClassVar[list[str]] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


class AsyncLife(Life):
    async def start(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.calls.append("start")

    async def stop(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.calls.append("stop")


@pytest.mark.parametrize("kind", [Life, AsyncLife])
async def test_start_and_stop_may_be_async_or_not(clean: TestServer, kind: type[Life]) -> None:
    kind.calls.clear()
    async with app(clean, kind):
        assert kind.calls == ["start"]
    assert kind.calls == ["start", "stop"]


async def test_one_that_cannot_start_keeps_the_app_from_starting(clean: TestServer) -> None:
    class Broken(Reporter):
        def start(self) -> None:
            raise ValueError("no key")

    Life.calls.clear()
    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="no key"):
        await app(clean, Life, Broken).start()
    assert Life.calls == ["start", "stop"]
    assert clean.cli("KEYS", "kiq:lease:*") == []
    assert asyncio.all_tasks() == before


async def test_neither_a_raising_nor_a_hanging_stop_keeps_others_from_theirs(
    clean: TestServer,
) -> None:
    class Broken(Reporter):
        def stop(self) -> None:
            raise ValueError("no")

    class Stuck(Reporter):
        stall_timeout: ClassVar[float] = 0.05

        async def stop(self) -> None:
            await asyncio.Event().wait()

    Life.calls.clear()
    told: list[ReporterDetached] = []
    jobs = app(clean, Broken, Stuck, Life)
    jobs.attach("reporter.detached", told.append)
    async with jobs:
        pass
    assert Life.calls == ["start", "stop"]
    assert sorted((event.reporter.rpartition(".")[2], event.reason) for event in told) == [
        ("Broken", "its stop raised ValueError('no')"),
        ("Stuck", "its stop raised TimeoutError()"),
    ]


async def test_an_overflow_that_does_not_exist_is_refused(clean: TestServer) -> None:
    class Wrong(Reporter):
        overflow: Any = "drop"

    with pytest.raises(ConfigError, match='overflow=\'drop\': give "block" or "drop_oldest"'):
        await app(clean, Wrong).start()


async def test_a_reporters_middleware_stands_outside_the_apps_own(clean: TestServer) -> None:
    order: list[str] = []

    async def own(job: Job, call_next: Next) -> None:
        order.append("app")
        await call_next(job)

    class Surrounds(Reporter):
        def middleware(self) -> list[ServerMiddleware]:
            return [self.around]

        async def around(self, job: Job, call_next: Next) -> None:
            order.append("reporter")
            await call_next(job)

    async with app(clean, Surrounds, middleware=[own]) as jobs:
        await jobs.enqueue(note.new(1))
        await eventually(lambda: all_settled(clean, 1), "it is settled")
    assert order == ["reporter", "app"]
    assert ran == [1]

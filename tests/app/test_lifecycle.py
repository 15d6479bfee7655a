"""Start and stop: twice, in the wrong order, again, concurrently."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from functools import partial
from typing import Any

import pytest

from kiqpy import App, LifecycleError, StoreUnavailable, worker
from kiqpy._runtime.state import State
from kiqpy.event import Event
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

gates: dict[str, asyncio.Event] = {}
ran: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    gates.clear()
    running.clear()
    in_thread.clear()
    ran.clear()


in_thread = threading.Event()
running: dict[str, App] = {}


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


@worker
async def note(n: int) -> None:
    ran.append(n)


@worker
async def waits(n: int) -> None:
    ran.append(n)
    await gate("x").wait()


@worker
async def stubborn(n: int) -> None:
    ran.append(n)
    while not gate("x").is_set():
        try:
            await gate("x").wait()
        except asyncio.CancelledError:
            continue


@worker
async def follows(n: int) -> None:
    """Enqueues once it is let go on, in both ways."""
    ran.append(n)
    await gate("x").wait()
    assert running["app"].enqueue_nowait(note.new(n + 1)).state == "buffered"
    assert (await running["app"].enqueue(note.new(n + 2))).state == "queued"


@worker
def follows_in_a_thread(n: int) -> None:
    ran.append(n)
    assert in_thread.wait(20)
    assert running["app"].enqueue_sync(note.new(n + 1)).state == "queued"
    assert running["app"].enqueue_nowait(note.new(n + 2)).state == "buffered"


class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits, stubborn, follows, follows_in_a_thread]


def app(redis_url: str, **changes: Any) -> Jobs:
    return Jobs(redis_url=redis_url, **changes)


def more_ran_than(n: int) -> bool:
    return len(ran) > n


def waiting(server: TestServer) -> list[int]:
    """First arguments of what is in the queue, next one first."""
    raws = server.cli("LRANGE", "queue:default", 0, -1)
    assert isinstance(raws, list)
    return [json.loads(str(raw))["args"][0] for raw in reversed(raws)]


def held(server: TestServer) -> int:
    """How many jobs are in anybody's hands."""
    names = server.cli("KEYS", "kiq:private|*")
    assert isinstance(names, list)
    return sum(int(str(server.cli("HLEN", str(name)))) for name in names)


async def test_a_job_travels_from_enqueue_to_ack(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url) as jobs:
        await jobs.enqueue(note.new(7))
        await eventually(lambda: clean.cli("GET", "stat:processed") == "1", "its ack")
    assert ran == [7]
    assert held(clean) == 0


async def test_start_twice_is_refused_and_the_first_goes_on(redis_url: str) -> None:
    async with app(redis_url) as jobs:
        with pytest.raises(LifecycleError, match=r"Jobs is started already; stop it first"):
            await jobs.start()
        await jobs.enqueue(note.new(1))
        await eventually(lambda: ran == [1], "the job")


async def test_two_starts_at_once(redis_url: str) -> None:
    jobs = app(redis_url)
    results = await asyncio.gather(jobs.start(), jobs.start(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), LifecycleError]
    await jobs.stop()


async def test_stop_twice_and_stop_before_start(redis_url: str) -> None:
    jobs = app(redis_url)
    await jobs.stop()
    await jobs.start()
    await asyncio.gather(jobs.stop(), jobs.stop())
    await jobs.stop()


async def test_restart_after_stop(
    redis_url: str, clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line was logged once for every start so far."""
    caplog.set_level(logging.INFO, logger="kiqpy")
    jobs, idents = app(redis_url), set[str]()
    for n in range(3):
        caplog.clear()
        async with jobs:
            idents.add(jobs.store.ident)
            await jobs.enqueue(note.new(n))
            await eventually(partial(more_ran_than, n), "the job")
        assert caplog.text.count("process.stopped") == 1
        assert caplog.text.count("job.success") == 1
    assert ran == [0, 1, 2]
    assert len(idents) == 3
    assert clean.cli("SMEMBERS", "processes") == []


async def test_start_while_it_stops_is_refused(redis_url: str) -> None:
    jobs = app(redis_url)
    await jobs.start()
    await jobs.enqueue(waits.new(1))
    await eventually(lambda: ran, "the start")
    stopping = asyncio.create_task(jobs.stop(grace=5))
    await asyncio.sleep(0)
    with pytest.raises(LifecycleError, match="is still stopping: await its stop"):
        await jobs.start()
    gate("x").set()
    await stopping
    async with jobs:
        pass


async def test_two_apps_in_one_loop_share_the_work(redis_url: str) -> None:
    async with app(redis_url, identity="a") as one, app(redis_url, identity="b") as other:
        assert one.store.ident.startswith("a:")
        assert other.store.ident.startswith("b:")
        await one.enqueue_many([note.new(n) for n in range(50)])
        await eventually(lambda: len(ran) == 50, "all jobs")
    assert sorted(ran) == list(range(50))


async def test_a_client_has_no_lease_and_is_no_process(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url).client_only() as jobs:
        await jobs.enqueue(note.new(1))
        assert clean.cli("SMEMBERS", "processes") == []
        assert clean.cli("KEYS", "kiq:lease:*") == []
        assert clean.cli("KEYS", "kiq:private*") == []
        assert waiting(clean) == [1]
    async with App(redis_url=redis_url, server=False, queues={}):
        assert clean.cli("SMEMBERS", "processes") == []
    assert ran == []


async def test_an_app_that_was_not_started_says_so(redis_url: str) -> None:
    jobs = app(redis_url)
    for call in (jobs.enqueue(note.new(1)), jobs.flush(), jobs.quiet()):
        with pytest.raises(LifecycleError, match=r"Jobs is not started: use `async with app:`"):
            await call
    with pytest.raises(LifecycleError):
        jobs.enqueue_nowait(note.new(1))


# -- stopping with jobs under way


async def test_stop_waits_for_what_runs(redis_url: str, clean: TestServer) -> None:
    jobs = app(redis_url)
    await jobs.start()
    await jobs.enqueue(waits.new(1))
    await eventually(lambda: ran, "the start")
    stopping = asyncio.create_task(jobs.stop())
    await eventually(lambda: jobs._lifecycle.state is State.STOPPING, "the stop")
    gate("x").set()
    await stopping
    assert clean.cli("GET", "stat:processed") == "1"
    assert (waiting(clean), held(clean)) == ([], 0)


@pytest.mark.parametrize("which", [follows, follows_in_a_thread], ids=["async", "thread"])
async def test_jobs_may_enqueue_until_the_last_of_them_has_ended(
    redis_url: str, clean: TestServer, which: Any
) -> None:
    """In the grace of a stop a job was told that the app is not started, and failed."""
    jobs = running["app"] = app(redis_url)
    await jobs.start()
    await jobs.enqueue(which.new(1))
    await eventually(lambda: ran == [1], "the start")
    stopping = asyncio.create_task(jobs.stop())
    await eventually(lambda: jobs._lifecycle.state is State.STOPPING, "the stop")
    assert not jobs.started
    gate("x").set()
    in_thread.set()
    await stopping
    assert sorted(waiting(clean)) == [2, 3]
    assert clean.cli("GET", "stat:processed") == "1"
    assert clean.cli("ZCARD", "retry") == 0
    with pytest.raises(LifecycleError, match="is not started"):
        await jobs.enqueue(note.new(4))


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.slow
async def test_what_outlasts_the_grace_goes_back_to_the_head_in_order(
    redis_url: str, clean: TestServer, hangs: bool
) -> None:
    which = stubborn if hangs else waits
    stopped: list[Any] = []
    jobs = app(redis_url)
    jobs.attach("process.stopped", stopped.append)
    await jobs.start()
    await jobs.enqueue_many([which.new(n) for n in range(8)])
    await eventually(lambda: ran == [0, 1, 2], "three under way")
    began = time.monotonic()
    await jobs.stop(grace=0.1)
    took_s = time.monotonic() - began
    assert took_s < (6 if hangs else 2)
    assert waiting(clean) == list(range(8))
    assert held(clean) == 0
    assert clean.cli("GET", "stat:processed") in (None, "0")
    assert stopped[0].released == 3
    raw = clean.cli("LINDEX", "queue:default", -1)
    assert "retry_count" not in str(raw)
    gate("x").set()


@pytest.mark.slow
async def test_the_next_process_goes_on_where_the_first_stopped(redis_url: str) -> None:
    jobs = app(redis_url)
    await jobs.start()
    await jobs.enqueue_many([waits.new(n) for n in range(5)])
    await eventually(lambda: ran == [0, 1, 2], "three under way")
    await jobs.stop(grace=0)
    gate("x").set()
    async with app(redis_url):
        await eventually(lambda: len(ran) == 8, "the rest")
    assert sorted(ran[3:]) == [0, 1, 2, 3, 4]


async def test_quiet_claims_nothing_more_and_still_enqueues(
    redis_url: str, clean: TestServer
) -> None:
    async with app(redis_url) as jobs:
        await jobs.enqueue(waits.new(1))
        await eventually(lambda: ran, "the start")
        await jobs.quiet()
        await jobs.quiet()
        assert (await jobs.enqueue(note.new(2))).state == "queued"
        gate("x").set()
        await eventually(lambda: clean.cli("GET", "stat:processed") == "1", "the first's ack")
        assert waiting(clean) == [2]
    assert ran == [1]


async def test_jobs_that_can_not_be_flushed_are_logged_or_raised(
    redis_url: str, clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_unflushed="log"`, the default, said nothing."""
    from kiqpy._runtime import engine as _engine

    for how in ("log", "raise"):
        jobs = app(redis_url, on_unflushed=how, confirm_timeout=0.05)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_engine, "_SETTLE_S", 0.2)
            async with jobs.client_only():
                clean.kill()
                jobs.enqueue_nowait(note.new(1))
                if how == "raise":
                    with pytest.raises(StoreUnavailable, match="1 accepted jobs could not"):
                        await jobs.stop()
        clean.start()
    assert "1 accepted jobs could not be made durable" in caplog.text


# -- what others see and say


async def test_signals_come_through_redis(
    redis_url: str, clean: TestServer, capfd: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []

    def seen() -> str:
        written.append(capfd.readouterr().err)
        return "".join(written)

    heard: list[Event] = []
    jobs = app(redis_url, heartbeat_interval=0.1, lease_ttl=5)
    jobs.attach("process.*", heard.append)
    async with jobs:
        clean.cli("LPUSH", f"{jobs.store.ident}-signals", "TSTP")
        await eventually(lambda: len(heard) == 2, "the quiet")
        assert [event.name for event in heard] == ["process.started", "process.quiet"]
        ident = jobs.store.ident
        await eventually(lambda: clean.cli("HGET", ident, "quiet") == "true", "its mark")
        clean.cli("LPUSH", f"{ident}-signals", "CONT")
        await eventually(
            lambda: clean.cli("HGET", ident, "quiet") == "false", "the end of the quiet"
        )
        clean.cli("LPUSH", f"{ident}-signals", "TTIN")
        await eventually(lambda: "in test_signals_come" in seen(), "the stacks")
        clean.cli("LPUSH", f"{jobs.store.ident}-signals", "TERM")
        await asyncio.wait_for(jobs.wait_stopped(), 10)
    assert heard[-1].name == "process.stopped"


async def test_the_first_heartbeat_tells_of_queues_and_concurrency(
    redis_url: str, clean: TestServer
) -> None:
    """For its first five seconds a process showed concurrency 0 and no queues."""
    jobs = app(redis_url, heartbeat_interval=10, lease_ttl=30, queues={"default": 3, "b": 4})
    async with jobs:
        (process,) = await jobs.admin.processes()
        assert (process.concurrency, process.queues) == (7, ("default", "b"))
        info = json.loads(str(clean.cli("HGET", jobs.store.ident, "info")))
        assert info["concurrency"] == 7
        assert list(info["capsules"]) == ["default", "b"]


async def test_sidekiqs_busy_page_can_read_the_process(redis_url: str, clean: TestServer) -> None:
    jobs = app(redis_url, heartbeat_interval=0.1, lease_ttl=5, queues={"default": 3, "b": 4})
    async with jobs:
        ident = jobs.store.ident
        await jobs.enqueue(waits.new(1))
        await eventually(lambda: clean.cli("HGET", ident, "busy") == "1", "the running job")
        assert clean.cli("SMEMBERS", "processes") == [ident]
        info = json.loads(str(clean.cli("HGET", ident, "info")))
        assert info["identity"] == ident
        assert info["concurrency"] == 7
        assert info["queues"] == ["default", "b"]
        assert {"hostname", "pid", "tag", "labels", "started_at", "version", "weights"} <= set(info)
        assert info["embedded"] is False, "Sidekiq refuses to quiet or stop an embedded process"
        assert info["version"].startswith("kiqpy 0.")
        assert info["capsules"]["b"] == {"concurrency": 4, "mode": "strict", "weights": {"b": 0}}
        assert abs(info["started_at"] - time.time()) < 60
        assert clean.cli("HGET", ident, "quiet") == "false"
        assert float(str(clean.cli("HGET", ident, "beat"))) == pytest.approx(time.time(), abs=5)
        assert int(str(clean.cli("HGET", ident, "rss"))) > 1000
        assert int(str(clean.cli("HGET", ident, "rtt_us"))) >= 0
        work = clean.cli("HVALS", f"{ident}:work")
        assert isinstance(work, list)
        assert len(work) == 1
        shown = json.loads(str(work[0]))
        assert shown["queue"] == "default"
        assert json.loads(shown["payload"])["args"] == [1]
        assert abs(shown["run_at"] - time.time()) < 60
        gate("x").set()
    assert clean.cli("SMEMBERS", "processes") == []
    assert clean.cli("EXISTS", ident, f"{ident}:work", f"kiq:lease:{ident}") == 0


@pytest.mark.slow
async def test_starting_and_stopping_under_load_loses_and_doubles_nothing(
    redis_url: str, clean: TestServer
) -> None:
    jobs = app(redis_url, queues={"default": 7})
    total, began = 0, time.monotonic()
    for round_ in range(25):
        await jobs.start()
        for _ in range(20):
            jobs.enqueue_nowait(note.new(total))
            total += 1
        if round_ % 3:
            before = len(ran)
            await eventually(partial(more_ran_than, before), "some to run")
        if round_ % 2:
            await asyncio.gather(jobs.stop(grace=0), jobs.stop(grace=0))
        else:
            await jobs.stop()
        assert held(clean) == 0
    async with jobs:
        await eventually(lambda: len(set(ran)) == total, "all jobs")
    assert set(ran) == set(range(total))
    assert len(ran) <= total + 25 * 7
    assert waiting(clean) == []
    assert time.monotonic() - began < 60

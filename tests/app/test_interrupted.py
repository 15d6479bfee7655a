"""A job that kiqpy interrupts keeps its worker's rules, its outcome, and its finish path."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from kiqpy import App, LifecycleError, worker
from kiqpy._reporting.bus import Bus
from kiqpy._stages.consumer import Consumer, Run
from kiqpy.clock import SystemClock
from kiqpy.event import ProcessStopped
from kiqpy.job import Claim
from kiqpy.outcome import RELEASED, SUCCESS, Outcome
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@worker(timeout=0.05, retry=1, backoff=lambda _count, _error, _job: 5000.0)
async def slow() -> None:
    await asyncio.Event().wait()


@worker
async def forever() -> None:
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        ended_by.append("cancelled")


ended_by: list[str] = []
started = threading.Event()  # not asyncio's: each test has a loop of its own


async def test_a_job_that_timed_out_keeps_its_workers_backoff(clean: TestServer) -> None:
    """It was retried on the default curve: the rules were lost with the cancelled task."""
    async with App(redis_url=clean.url, workers=[slow]) as jobs:
        await jobs.enqueue(slow.new())
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "the job to be retried")
        (entry,) = await jobs.store.census.page("retry", 0, 1)
    assert entry.score is not None
    assert 4000 < entry.score - time.time() < 5001


async def test_a_run_that_has_just_ended_is_not_given_back() -> None:
    """Released in the turn in which it returned, a job was run again although it had succeeded."""

    async def perform(run: Run) -> Outcome:
        await asyncio.sleep(0)
        return SUCCESS

    consumer = Consumer(perform, SystemClock(), Bus())
    consumer._start(Claim("q", 1, b"{}"))
    (run,) = consumer.running
    assert run.task is not None
    await asyncio.wait({run.task})
    await consumer.release(1.0)
    assert [settlement.outcome for settlement in consumer._finished] == [SUCCESS]


async def test_a_run_that_had_not_begun_is_given_back() -> None:
    """Cancelled before its first step, a task runs none of its code: no callback, no finally."""

    async def perform(run: Run) -> Outcome:
        await asyncio.Event().wait()
        return SUCCESS

    consumer = Consumer(perform, SystemClock(), Bus())
    consumer._start(Claim("q", 1, b"{}"))
    await consumer.release(1.0)
    assert [settlement.outcome for settlement in consumer._finished] == [RELEASED]
    assert not consumer.running


async def test_a_stop_that_is_cancelled_comes_to_its_end(clean: TestServer) -> None:
    """The grace is over then; the job goes back and nothing stays held."""
    jobs = App(redis_url=clean.url, workers=[forever], shutdown_timeout=600)
    await jobs.start()
    started.clear()
    await jobs.enqueue(forever.new())
    await eventually(started.is_set, "the job's start")
    stopping = asyncio.create_task(jobs.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(stopping, 20)
    assert clean.cli("LLEN", "queue:default") == 1
    assert clean.cli("KEYS", "kiq:private*") == []
    assert clean.cli("KEYS", "kiq:lease*") == []


async def test_a_heart_beats_in_a_folder_that_was_removed(
    clean: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    async with App(redis_url=clean.url, heartbeat_interval=0.1) as jobs:
        beats: set[object] = set()
        ident = jobs.store.ident
        await eventually(
            lambda: beats.add(clean.cli("HGET", ident, "beat")) or len(beats) > 2, "three beats"
        )


async def test_a_stop_during_the_start_is_refused(clean: TestServer) -> None:
    """It returned at once, and then the app started all the same."""
    jobs = App(redis_url=clean.url)
    starting = asyncio.create_task(jobs.start())
    await asyncio.sleep(0)
    with pytest.raises(LifecycleError, match="cancel its start"):
        await jobs.stop()
    await starting
    await jobs.stop()


held_back = threading.Event()
entered = threading.Event()


@worker
def goes_on() -> None:
    entered.set()
    held_back.wait(60)


def test_a_thread_that_goes_on_after_the_stop_keeps_no_loop(clean: TestServer) -> None:
    """`asyncio.run` returned when the thread ended: never, if that hangs."""
    entered.clear()
    held_back.clear()

    async def serve() -> None:
        async with App(redis_url=clean.url, workers=[goes_on], shutdown_timeout=0.1) as jobs:
            await jobs.enqueue(goes_on.new())
            await asyncio.to_thread(entered.wait, 20)

    try:
        asyncio.run(serve())
        assert clean.cli("LLEN", "queue:default") == 1  # it went back
    finally:
        held_back.set()


finish = threading.Event()


@worker
def ends_late(n: int) -> int:
    entered.set()
    finish.wait(60)
    return n


async def test_a_thread_that_ends_while_the_process_stops_has_ended(
    clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It was given back, and run again by the next process, at each deploy."""
    entered.clear()
    finish.clear()
    ended_by.clear()
    stopped: list[ProcessStopped] = []
    jobs = App(redis_url=clean.url, workers=[ends_late, forever])
    jobs.attach("process.stopped", stopped.append)
    await jobs.start()
    started.clear()
    await jobs.enqueue(ends_late.new(1))
    receipt = await jobs.enqueue(forever.new())
    await asyncio.to_thread(entered.wait, 20)
    await eventually(started.is_set, "the other job's start")
    stopping = asyncio.create_task(jobs.stop(grace=0))
    await eventually(lambda: "cancelled" in ended_by, "the other job's cancellation")
    finish.set()
    await stopping
    assert clean.cli("GET", "stat:processed") == "1"
    assert [told.released for told in stopped] == [1]
    assert f"jobs outlasted the grace and went back to their queues: {receipt.jid}" in caplog.text

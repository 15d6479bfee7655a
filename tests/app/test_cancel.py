"""A cancelled job does not run, or stops within a second, wherever it is."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from benchmarks.traffic import counting
from kiqpy import App, Job, Snooze, current_job, worker
from kiqpy.event import Event
from tests.crash.journal import held, words
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

gate = asyncio.Event()
thread_gate = threading.Event()
ran: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    global gate
    gate = asyncio.Event()
    thread_gate.clear()
    ran.clear()


@worker(name="note")
async def note(n: int) -> None:
    ran.append(n)


@worker(name="waits", unique_for=timedelta(hours=1))
async def waits(n: int) -> None:
    ran.append(n)
    await gate.wait()


@worker(name="apart", max_concurrency=1)
async def apart(n: int) -> None:
    ran.append(n)
    await gate.wait()


@worker(name="swallows", timeout=3600)
async def swallows(n: int) -> None:
    ran.append(n)
    while not gate.is_set():
        try:
            await gate.wait()
        except asyncio.CancelledError:
            continue


@worker(name="snoozes")
async def snoozes(n: int) -> Snooze:
    ran.append(n)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        pass
    return Snooze(0)


@worker(name="late", timeout=0.2)
async def late(n: int) -> None:
    ran.append(n)
    while not gate.is_set():
        try:
            await gate.wait()
        except asyncio.CancelledError:
            continue
    raise ValueError("too late")


@worker(name="blocks", executor="thread")
def blocks(n: int) -> None:
    ran.append(n)
    thread_gate.wait(20)


class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits, apart, swallows, snoozes, late, blocks]
    heartbeat_interval = 0.1
    lease_ttl = 20.0


class Shop:
    """An app at work, a client beside it, and what the app told of."""

    def __init__(self, url: str, server: TestServer, **options: Any) -> None:
        self.server = server
        self.jobs, self.client = Jobs(redis_url=url, **options), Jobs(redis_url=url)
        self.events: list[Event] = []
        self.jobs.attach("job.*", self.events.append)

    def told(self) -> list[str]:
        return [event.name for event in self.events if event.name not in _DULL]

    def dead(self) -> list[dict[str, Any]]:
        return [json.loads(raw) for raw in words(self.server.cli("ZRANGE", "dead", 0, -1))]

    async def ends(self, jid: str, keep: bool) -> None:
        """The job ends as one that was cancelled; nothing of it is left but what is to be kept."""
        await eventually(lambda: "job.cancelled" in self.told(), "the event")
        await eventually(lambda: not held(self.server), "its end")
        self.only_dead(jid, keep)

    def only_dead(self, jid: str, keep: bool) -> None:
        found = self.dead()
        assert [job["jid"] for job in found] == ([jid] if keep else [])
        for job in found:
            assert (job["error_class"], job["error_message"]) == ("kiqpy.Cancelled", "cancelled")
            assert job["failed_at"] == pytest.approx(time.time(), abs=60)
        for place in ("retry", "schedule", "queue:default"):
            assert self.server.cli("EXISTS", place) == 0


_DULL = {"job.enqueued", "job.started", "job.stopped"}
both = pytest.mark.parametrize("keep", [True, False])


@asynccontextmanager
async def shop(url: str, server: TestServer, **options: Any) -> AsyncIterator[Shop]:
    it = Shop(url, server, **options)
    async with it.client.client_only(), it.jobs:
        yield it


# -- at rest


@both
@pytest.mark.parametrize(("in_", "was"), [(None, "queued"), (3600, "scheduled")])
async def test_a_job_that_waits(
    redis_url: str, clean: TestServer, in_: float | None, was: str, keep: bool
) -> None:
    it = Shop(redis_url, clean)
    async with it.client.client_only():
        receipt = await it.client.enqueue(waits.new(1), in_=in_)
        assert clean.cli("KEYS", "unique:*") != []
        assert await it.client.cancel(receipt.jid, keep=keep) == was
        it.only_dead(receipt.jid, keep)
        assert clean.cli("KEYS", "unique:*") == []
        async with it.jobs:
            again = await it.client.enqueue(waits.new(1))
            assert again.state == "queued"
            await eventually(lambda: ran == [1], "the next of its kind")
            gate.set()
    it.only_dead(receipt.jid, keep)


@both
async def test_a_job_between_two_tries(redis_url: str, clean: TestServer, keep: bool) -> None:
    async with shop(redis_url, clean) as it:
        receipt = await it.client.enqueue(Job("nobody", [1]))
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "its first failure")
        assert await it.client.cancel(receipt.jid, keep=keep) == "retry"
        it.only_dead(receipt.jid, keep)


@both
async def test_a_job_deep_in_a_queue_of_ten_thousand(
    redis_url: str, clean: TestServer, keep: bool
) -> None:
    raws = [
        json.dumps({"class": "note", "args": [n], "queue": "default", "jid": f"{n:024x}"})
        for n in range(10_000)
    ]
    for start in range(0, 10_000, 1000):
        clean.cli("LPUSH", "queue:default", *raws[start : start + 1000])
    clean.cli("SADD", "queues", "default")
    async with Jobs(redis_url=redis_url).client_only() as jobs:
        began = time.monotonic()
        assert await jobs.cancel(f"{5000:024x}", keep=keep) == "queued"
        took_s = time.monotonic() - began
        print(f"found among 10,000 in {took_s * 1000:.0f} ms")
        assert took_s < 2
        assert clean.cli("LLEN", "queue:default") == 9999
        assert clean.cli("ZCARD", "dead") == int(keep)


@both
async def test_a_job_too_deep_to_be_looked_for_is_stopped_when_it_is_claimed(
    redis_url: str, clean: TestServer, keep: bool
) -> None:
    """By a process that was idle when it was cancelled, and that had not looked since."""
    it = Shop(redis_url, clean)
    async with it.client.client_only(), it.jobs:
        await it.jobs.quiet()
        receipt = await it.client.enqueue(note.new(99))
        for n in range(30):
            await it.client.enqueue(note.new(n))
        assert await it.client.admin.cancel(receipt.jid, keep=keep, most=10) == "marked"
        await it.jobs.quiet(False)
        await eventually(lambda: len(ran) == 30, "the others")
        await it.ends(receipt.jid, keep)
    assert sorted(ran) == list(range(30))
    assert it.told().count("job.cancelled") == 1


# -- while it runs


@both
@pytest.mark.parametrize("where", ["here", "in another process"])
async def test_a_job_that_runs(redis_url: str, clean: TestServer, where: str, keep: bool) -> None:
    async with shop(redis_url, clean) as it:
        receipt = await it.client.enqueue(waits.new(1))
        await eventually(lambda: ran == [1], "its start")
        began = time.monotonic()
        await (it.jobs if where == "here" else it.client).cancel(receipt.jid, keep=keep)
        await it.ends(receipt.jid, keep)
        assert time.monotonic() - began < 3  # how fast it is, tests/crash/test_cancel.py measures
        assert clean.cli("KEYS", "unique:*") == []
        assert (await it.client.enqueue(waits.new(1))).state == "queued"
        await eventually(lambda: ran == [1, 1], "the next of its kind")
        gate.set()
        await eventually(lambda: "job.success" in it.told(), "its end")
    assert it.told() == ["job.cancelled", "job.success"]
    assert clean.cli("GET", "stat:processed") == "2"


@both
async def test_a_job_that_waits_for_max_concurrency(
    redis_url: str, clean: TestServer, keep: bool
) -> None:
    async with shop(redis_url, clean) as it:
        await it.client.enqueue(apart.new(1))
        receipt = await it.client.enqueue(apart.new(2))
        await eventually(lambda: sum(held(clean).values()) == 2, "both to be claimed")
        await eventually(lambda: ran == [1], "the first to begin")
        await it.client.cancel(receipt.jid, keep=keep)
        await eventually(lambda: it.told() == ["job.cancelled"], "its end")
        gate.set()
        await eventually(lambda: not held(clean), "the end of the other")
        it.only_dead(receipt.jid, keep)
    assert ran == [1]
    assert it.told() == ["job.cancelled", "job.success"]


async def test_a_job_that_nobody_here_knows(redis_url: str, clean: TestServer) -> None:
    """It failed for its class, and was retried for weeks."""
    it = Shop(redis_url, clean)
    async with it.client.client_only(), it.jobs:
        await it.jobs.quiet()
        receipt = await it.client.enqueue(Job("nobody", [1]))
        await it.client.enqueue(note.new(1))
        assert await it.client.admin.cancel(receipt.jid, most=1) == "marked"
        await it.jobs.quiet(False)
        await it.ends(receipt.jid, keep=True)


async def test_a_job_that_goes_on_after_its_cancel(
    redis_url: str, clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is told, its slot stays taken, and what it does in the end is what counts."""
    monkeypatch.setattr("kiqpy._stages.consumer._SWALLOWED_S", 0.1)
    async with shop(redis_url, clean, queues={"default": 1}) as it:
        receipt = await it.client.enqueue(swallows.new(1))
        await eventually(lambda: ran == [1], "its start")
        await it.client.enqueue(note.new(2))
        await it.client.cancel(receipt.jid)
        await eventually(lambda: it.told() == ["job.swallowed_cancel"], "the complaint")
        await it.jobs.wake()
        assert clean.cli("LLEN", "queue:default") == 1
        gate.set()
        await eventually(lambda: ran == [1, 2], "the next job")
        await eventually(lambda: not held(clean), "the end of all")
    assert it.told() == ["job.swallowed_cancel", "job.success", "job.success"]
    assert it.dead() == []


async def test_a_job_in_a_thread_runs_to_its_end_and_counts_as_what_it_ended_as(
    redis_url: str, clean: TestServer
) -> None:
    """A thread can't be interrupted: its slot stays taken, and it is not retried."""
    async with shop(redis_url, clean, queues={"default": 1}) as it:
        receipt = await it.client.enqueue(blocks.new(1))
        await eventually(lambda: ran == [1], "its start")
        await it.client.enqueue(note.new(2))
        cancels = _hearing(it.jobs)
        await it.client.cancel(receipt.jid)
        await eventually(cancels, "the cancel to be heard")
        assert it.told() == []
        assert clean.cli("LLEN", "queue:default") == 1
        thread_gate.set()
        await eventually(lambda: ran == [1, 2], "the next job")
        await eventually(lambda: not held(clean), "the end of all")
        assert it.dead() == []
    assert it.told() == ["job.success", "job.success"]


def _hearing(jobs: Jobs) -> Callable[[], bool]:
    [run] = jobs._lifecycle.running().pipelines.runs()
    return lambda: run.why == "cancelled"


@pytest.mark.parametrize("kind", [snoozes, late], ids=["snooze", "timeout"])
async def test_a_cancelled_job_does_not_come_back_by_itself(
    redis_url: str, clean: TestServer, kind: Any
) -> None:
    """It had been told to end before, or it answered with a snooze: so it ran again."""
    async with shop(redis_url, clean) as it:
        receipt = await it.client.enqueue(kind.new(1))
        await eventually(lambda: ran == [1], "its start")
        [run] = it.jobs._lifecycle.running().pipelines.runs()
        if kind is late:
            await eventually(lambda: run.why == "timeout", "its timeout")
        await it.client.cancel(receipt.jid)
        await eventually(lambda: run.why == "cancelled", "the cancel to be heard")
        gate.set()
        await it.ends(receipt.jid, keep=True)
    assert ran == [1]


# -- afterwards


@pytest.mark.parametrize("how", ["retry", "requeue"])
async def test_a_cancelled_job_that_an_operator_brings_back_runs(
    redis_url: str, clean: TestServer, how: str
) -> None:
    """Also in the process that has heard of its cancel, and in one that starts later."""
    async with shop(redis_url, clean) as it:
        receipt = await it.client.enqueue(waits.new(1))
        await eventually(lambda: ran == [1], "its start")
        await it.client.cancel(receipt.jid)
        await it.ends(receipt.jid, keep=True)
        assert (await getattr(it.client.admin, how)(receipt.jid)).done == 1
        await eventually(lambda: ran == [1, 1], "its second start")
        gate.set()
        await eventually(lambda: "job.success" in it.told(), "its end")
        assert it.dead() == []
        assert words(clean.cli("ZRANGE", "kiq:cancels", 0, -1)) == [f"={receipt.jid}"]
        await it.client.cancel(receipt.jid)  # the mark of what is long gone stops nobody else
        await it.client.enqueue(note.new(2))
        await eventually(lambda: ran == [1, 1, 2], "another")


async def test_a_job_that_is_brought_back_runs_in_a_process_that_knows_of_its_cancel(
    redis_url: str, clean: TestServer
) -> None:
    """It was cancelled while it was at rest: nobody has heeded the mark, and all have seen it."""
    async with shop(redis_url, clean) as it:
        await it.client.enqueue(waits.new(0))  # while something runs, cancels are looked for
        await eventually(lambda: ran == [0], "its start")
        receipt = await it.client.enqueue(note.new(1), in_=3600)
        assert await it.client.cancel(receipt.jid) == "scheduled"
        await eventually(lambda: it.jobs.store.cancelled == {receipt.jid: True}, "the mark")
        assert (await it.client.admin.requeue(receipt.jid)).done == 1
        await eventually(lambda: ran == [0, 1], "the job")
        await eventually(lambda: it.jobs.store.cancelled == {}, "the mark to be forgotten")
        gate.set()
        await eventually(lambda: not held(clean), "the end of all")
    assert it.told() == ["job.success", "job.success"]
    assert it.dead() == []


async def test_marks_are_not_kept_for_ever(redis_url: str, clean: TestServer) -> None:
    async with Jobs(redis_url=redis_url).client_only() as jobs:
        clean.cli("ZADD", "kiq:cancels", time.time() - 7 * 86_400 - 1, "+old")
        clean.cli("ZADD", "kiq:cancels", time.time() - 7 * 86_400 + 60, "+young")
        await jobs.cancel("new")
        marks = words(clean.cli("ZRANGE", "kiq:cancels", 0, -1))
        assert marks == ["+young", "+new"]
        assert 0 < int(str(clean.cli("PTTL", "kiq:cancels"))) <= 7 * 86_400_000


async def test_idle_processes_ask_nothing_about_cancels(clean: TestServer) -> None:
    """A hundred are cancelled; an idle process asks once, when it has claimed a job."""
    async with counting(clean.socket) as (url, counts):
        jobs, client = Jobs(redis_url=url), Jobs(redis_url=clean.url)
        async with client.client_only(), jobs:
            await client.enqueue(note.new(0))
            await eventually(lambda: ran == [0], "a first job")
            await eventually(lambda: not held(clean), "its end")
            counts.clear()
            for n in range(100):
                await client.cancel(f"job-{n}")
            await jobs.wake()
            await client.enqueue(note.new(1))
            await eventually(lambda: ran == [0, 1], "another job")
            await eventually(lambda: not held(clean), "its end")
            assert counts.verbs["ZRANGEBYSCORE"] <= 3  # the marks, and the end of the marks
            counts.clear()
            await asyncio.sleep(2)  # what is measured is time itself
            assert counts.verbs["ZRANGEBYSCORE"] == 0


async def test_a_job_that_cancels_itself(redis_url: str, clean: TestServer) -> None:
    jobs = Jobs(redis_url=redis_url)

    @worker(name="suicidal")
    async def suicidal() -> None:
        ran.append(1)
        await jobs.cancel(current_job().jid)
        await gate.wait()

    jobs = Jobs(redis_url=redis_url, workers=[suicidal])
    async with jobs:
        await jobs.enqueue(suicidal.new())
        await eventually(lambda: clean.cli("ZCARD", "dead") == 1, "its end")
    assert ran == [1]

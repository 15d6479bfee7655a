"""`jobs.admin`: every call that the ancestors' consoles had, and the rules for all of them.

What the table in docs/admin.md says of `Exq.Api.find_retry` is shown by `test_exq_api_find_retry`
here, and so on.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiqpy import App, ArgumentError, LifecycleError, StoreRefused, worker
from kiqpy.admin import Admin, JobRow
from kiqpy.job import decode
from tests.eventually import eventually
from tests.server import UTF8, TestServer

pytestmark = pytest.mark.anyio
GUIDE = Path(__file__).parents[2] / "docs" / "admin.md"
UNREADABLE = b"\xff not json"
KEYS = {"retry": "retry", "scheduled": "schedule", "dead": "dead"}
gates: list[asyncio.Event] = []  # of the test that runs, for events belong to a loop


@worker(queue="mail")
async def hold(n: int) -> None:
    await gates[-1].wait()


@worker(queue="mail")
async def send(n: int) -> None: ...


class House:
    """An app that only looks, and a hand that puts things where they never come by themselves."""

    running = ""  # the jid of a job that runs

    def __init__(self, app: App, server: TestServer) -> None:
        self.app, self.server = app, server

    @property
    def admin(self) -> Admin:
        return self.app.admin

    def put(self, place: str, *members: bytes, score: float = 2e9) -> None:
        for n, member in enumerate(members):
            if place.startswith("queue:"):
                self.server.cli("SADD", "queues", place.removeprefix("queue:"))
                self.server.cli("LPUSH", place, member)
            else:
                self.server.cli("ZADD", KEYS[place], score + n, member)

    def raw(self, place: str) -> list[bytes]:
        """Next or soonest first."""
        words = ("LRANGE", place) if place.startswith("queue:") else ("ZRANGE", KEYS[place])
        found = self.server.cli(*words, 0, -1)
        assert isinstance(found, list)
        members = [str(text).encode(*UTF8) for text in found]
        return members[::-1] if place.startswith("queue:") else members

    def jids(self, place: str) -> list[str]:
        return [decode(raw).jid for raw in self.raw(place) if raw != UNREADABLE]


@pytest.fixture
async def house(clean: TestServer, anyio_backend: object) -> AsyncIterator[House]:
    async with App(redis_url=clean.url, queues=["mail"]).client_only() as app:
        yield House(app, clean)


def raw_job(jid: str, queue: str = "mail", **fields: Any) -> bytes:
    job = {"class": "Send", "args": [1], "jid": jid, "queue": queue, "retry": True, **fields}
    return json.dumps(job).encode()


def failed(jid: str, **fields: Any) -> bytes:
    return raw_job(jid, error_class="ValueError", error_message="no", failed_at=5.5,
                   **{"retry_count": 2, **fields})  # fmt: skip


def names(rows: Any) -> list[str]:
    return [row.jid for row in rows]


def payload(raw: bytes) -> dict[str, Any]:
    return decode(raw).payload


# ---- Exq.Api


async def test_exq_api_queues(house: House) -> None:
    house.put("queue:b", raw_job("1", "b", enqueued_at=time.time() - 50))
    await house.admin.pause("b")
    b, mail = await house.admin.queues()  # the app's own queue is there before its first job
    assert (b.name, b.size, b.paused) == ("b", 1, True)
    assert b.latency_s == pytest.approx(50, abs=10)
    assert mail == ("mail", 0, 0.0, False)


async def test_exq_api_queue_size(house: House) -> None:
    house.put("queue:mail", raw_job("1"), raw_job("2"))
    assert await house.admin.size("queue:mail") == 2
    assert [(queue.name, queue.size) for queue in await house.admin.queues()] == [("mail", 2)]


async def test_exq_api_remove_queue(house: House) -> None:
    house.put("queue:b", raw_job("1"), raw_job("2"))
    assert await house.admin.clear("queue:b") == 2
    assert house.server.cli("SMEMBERS", "queues") == []
    assert await house.admin.clear("queue:b") == 0


async def test_exq_api_jobs(house: House) -> None:
    house.put("queue:mail", *(raw_job(f"j{n}") for n in range(7)))
    page = await house.admin.jobs("queue:mail", page=2, per=3)
    assert names(page.rows) == ["j3", "j4", "j5"]
    assert (page.number, page.per, page.total, page.pages) == (2, 3, 7, 3)
    newest = await house.admin.jobs("queue:mail", per=3, newest=True)
    assert names(newest.rows) == ["j6", "j5", "j4"]
    assert newest.rows[0].place == "queue:mail"
    assert (await house.admin.jobs("queue:mail", page=9)).rows == []


async def test_exq_api_find_job(house: House) -> None:
    house.put("queue:mail", *(raw_job(f"j{n}") for n in range(7)))
    found = await house.admin.find("j3", "queue:mail")
    assert found.row is not None
    assert (found.row.jid, found.row.class_, found.row.args) == ("j3", "Send", [1])
    assert (await house.admin.find("j9", "queue:mail")).row is None


async def test_exq_api_remove_job(house: House) -> None:
    house.put("queue:mail", raw_job("a"), raw_job("b"))
    assert (await house.admin.delete("a", "queue:mail")).done == 1
    result = await house.admin.delete("a", "queue:mail")
    assert (result.done, result.missing) == (0, ("a",))
    assert house.jids("queue:mail") == ["b"]


@pytest.mark.parametrize("unlock", [False, True])
async def test_exq_api_remove_enqueued_jobs(house: House, unlock: bool) -> None:
    """With `clear_unique_tokens` the lock is free for the next job, without it is not."""
    house.put("queue:mail", raw_job("a", unique_token="T", unique_for=60), raw_job("b"))
    house.server.cli("SET", "unique:T", "a", "EX", 1000)
    page = await house.admin.jobs("queue:mail")
    result = await house.admin.delete(page.rows, unlock=unlock)
    assert (result.done, house.raw("queue:mail")) == (2, [])
    assert house.server.cli("EXISTS", "unique:T") == int(not unlock)


async def test_exq_api_retries(house: House) -> None:
    house.put("retry", failed("a"), failed("b"), score=100.0)
    page = await house.admin.jobs("retry")
    assert names(page.rows) == ["a", "b"]  # soonest first
    row = page.rows[0]
    assert (row.at, row.error_class, row.error_message) == (100.0, "ValueError", "no")
    assert (row.retry_count, row.failed_at, row.queue) == (2, 5.5, "mail")
    assert names((await house.admin.jobs("retry", newest=True)).rows) == ["b", "a"]


async def test_exq_api_retry_size(house: House) -> None:
    house.put("retry", failed("a"), failed("b"))
    assert await house.admin.size("retry") == 2


async def test_exq_api_find_retry(house: House) -> None:
    score = 1795226031.586491
    house.put("retry", failed("a"), score=score)
    house.put("retry", failed("b"), score=score + 1)
    for found in (
        await house.admin.find("a", "retry"), await house.admin.find("a", "retry", score=score),
    ):  # fmt: skip
        assert names(found.rows) == ["a"]
        assert found.row is not None
        assert found.row.at == score
    assert (await house.admin.find("a", "retry", score=score + 1)).rows == []


async def test_exq_api_remove_retry(house: House) -> None:
    house.put("retry", failed("a"), failed("b"))
    assert (await house.admin.delete("a", "retry")).done == 1
    assert house.jids("retry") == ["b"]


async def test_exq_api_remove_retry_jobs(house: House) -> None:
    house.put("retry", failed("a"), failed("b"), failed("c"))
    rows = (await house.admin.jobs("retry", per=2)).rows
    assert (await house.admin.delete(rows)).done == 2
    assert (await house.admin.delete(rows)) == type(await house.admin.delete([]))(gone=2)
    assert house.jids("retry") == ["c"]


async def test_exq_api_dequeue_retry_jobs(house: House) -> None:
    house.put("retry", failed("a", at=7.0, note='"x"'), failed("b"))
    rows = (await house.admin.jobs("retry")).rows
    assert (await house.admin.requeue(rows)).done == 2
    assert house.raw("retry") == []
    job = payload(house.raw("queue:mail")[0])
    assert job["enqueued_at"] == pytest.approx(time.time(), abs=20)
    assert (job["retry_count"], job["note"]) == (2, '"x"')
    assert "at" not in job
    assert house.server.cli("SMEMBERS", "queues") == ["mail"]


async def test_exq_api_retry_job(house: House) -> None:
    """As Sidekiq's button: the attempt is not one of the job's own."""
    house.put("retry", failed("a", retry_count=0), failed("b"))
    assert (await house.admin.retry("a")).done == 1
    assert (await house.admin.retry("unknown")).missing == ("unknown",)
    [raw] = house.raw("queue:mail")
    assert payload(raw)["retry_count"] == -1
    assert house.jids("retry") == ["b"]


async def test_exq_api_clear_retries(house: House) -> None:
    house.put("retry", failed("a"), UNREADABLE)
    assert await house.admin.clear("retry") == 2
    assert house.raw("retry") == []


async def test_exq_api_clear_scheduled(house: House) -> None:
    house.put("scheduled", raw_job("a"), UNREADABLE)
    assert await house.admin.clear("scheduled") == 2
    assert house.raw("scheduled") == []


async def test_exq_api_clear_failed(house: House) -> None:
    house.put("dead", failed("a"), UNREADABLE)
    house.server.cli("SET", "stat:failed", 7)
    assert await house.admin.clear("dead") == 2
    assert house.server.cli("GET", "stat:failed") == "7"  # what has failed has failed
    await house.admin.reset_stats()
    assert (await house.admin.stats()).failed == 0


async def test_exq_api_scheduled(house: House) -> None:
    await house.app.enqueue(send.new(2), in_=200)
    await house.app.enqueue(send.new(1), in_=100)
    rows = (await house.admin.jobs("scheduled")).rows
    assert [row.args for row in rows] == [[1], [2]]
    assert {row.place for row in rows} == {"scheduled"}


async def test_exq_api_scheduled_with_scores(house: House) -> None:
    await house.app.enqueue(send.new(2), in_=200)
    [row] = (await house.admin.jobs("scheduled")).rows
    assert row.at == pytest.approx(time.time() + 200, abs=20)


async def test_exq_api_scheduled_size(house: House) -> None:
    await house.app.enqueue(send.new(2), in_=200)
    assert await house.admin.size("scheduled") == 1


async def test_exq_api_find_scheduled(house: House) -> None:
    receipt = await house.app.enqueue(send.new(2), in_=200)
    found = await house.admin.find(receipt.jid, "scheduled")
    assert found.row is not None
    assert found.row.at is not None
    assert (await house.admin.find(receipt.jid, "scheduled", score=found.row.at)).row == found.row
    assert (await house.admin.find(receipt.jid)).row == found.row


async def test_exq_api_remove_scheduled(house: House) -> None:
    house.put("scheduled", raw_job("a"), raw_job("b"))
    assert (await house.admin.delete("a", "scheduled")).done == 1
    assert house.jids("scheduled") == ["b"]


async def test_exq_api_remove_scheduled_jobs(house: House) -> None:
    house.put("scheduled", raw_job("a"), raw_job("b"), raw_job("c"))
    rows = (await house.admin.jobs("scheduled", per=2)).rows
    assert (await house.admin.delete(rows)).done == 2
    assert (await house.admin.delete("c")).done == 1
    assert house.raw("scheduled") == []


async def test_exq_api_dequeue_scheduled_jobs(house: House) -> None:
    house.put("scheduled", raw_job("a", "other"), raw_job("b"))
    rows = (await house.admin.jobs("scheduled")).rows
    assert (await house.admin.requeue(rows)).done == 2
    assert (house.jids("queue:other"), house.jids("queue:mail")) == (["a"], ["b"])


async def test_exq_api_failed(house: House) -> None:
    """The dead set, the newest first."""
    house.put("dead", failed("a"), failed("b"))
    assert names((await house.admin.jobs("dead")).rows) == ["b", "a"]
    assert names((await house.admin.jobs("dead", newest=False)).rows) == ["a", "b"]


async def test_exq_api_failed_size(house: House) -> None:
    house.put("dead", failed("a"), UNREADABLE)
    assert await house.admin.size("dead") == 2


async def test_exq_api_find_failed(house: House) -> None:
    house.put("dead", failed("a"), score=77.0)
    assert names((await house.admin.find("a", "dead", score=77.0)).rows) == ["a"]
    assert names((await house.admin.find("a", "dead")).rows) == ["a"]


async def test_exq_api_remove_failed(house: House) -> None:
    """Exq lowers stat:failed by one; here a counter counts what happened."""
    house.put("dead", failed("a"))
    house.server.cli("SET", "stat:failed", 7)
    assert (await house.admin.delete("a", "dead")).done == 1
    assert house.server.cli("GET", "stat:failed") == "7"


async def test_exq_api_remove_failed_jobs(house: House) -> None:
    house.put("dead", failed("a"), failed("b"))
    assert (await house.admin.delete((await house.admin.jobs("dead")).rows)).done == 2
    assert house.raw("dead") == []


async def test_exq_api_dequeue_failed_jobs(house: House) -> None:
    house.put("dead", failed("a"), failed("b"))
    assert (await house.admin.requeue(["a", "b"])).done == 2
    assert sorted(house.jids("queue:mail")) == ["a", "b"]
    assert {payload(raw)["retry_count"] for raw in house.raw("queue:mail")} == {2}


async def test_exq_api_stats(house: House) -> None:
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    for name, value in (
        ("processed", 9), ("failed", 2), (f"processed:{yesterday}", 4), ("processed:mail", 3),
        ("failed:mail", 1),
    ):  # fmt: skip
        house.server.cli("SET", f"stat:{name}", value)
    house.put("retry", failed("a"))
    house.put("queue:mail", raw_job("b"), raw_job("c"))
    stats = await house.admin.stats(days=3)
    assert (stats.processed, stats.failed, stats.enqueued, stats.retry) == (9, 2, 2, 1)
    assert (stats.scheduled, stats.dead, stats.processes, stats.busy) == (0, 0, 0, 0)
    assert len(stats.days) == 3
    assert stats.days[1] == (yesterday.isoformat(), 4, 0)
    assert stats.queues == (("mail", 3, 1),)
    await house.admin.reset_stats()
    assert (await house.admin.stats(days=0)).processed == 0


# ---- processes


@pytest.fixture
async def at_work(clean: TestServer, anyio_backend: object) -> AsyncIterator[House]:
    """An app that runs one job which waits for the gate."""
    gates.append(asyncio.Event())
    jobs = App(
        redis_url=clean.url, queues={"mail": 2}, workers=[hold, send], heartbeat_interval=0.1,
        shutdown_timeout=5,
    )  # fmt: skip
    async with jobs:
        receipt = await jobs.enqueue(hold.new(1))
        house = House(jobs, clean)
        house.running = receipt.jid
        await eventually(house.admin.busy, "the job is running")
        yield house
        gates[-1].set()


async def test_exq_api_busy(at_work: House) -> None:
    [row] = await at_work.admin.busy()
    assert row.job is not None
    assert row.job.jid == at_work.running
    assert row.queue == "mail"
    assert row.run_at == pytest.approx(time.time(), abs=20)
    stats = await at_work.admin.stats()
    assert (stats.processes, stats.busy) == (1, 1)


async def test_exq_api_nodes(at_work: House) -> None:
    [process] = await at_work.admin.processes()
    assert process.ident == at_work.app.store.ident
    assert (process.queues, process.concurrency, process.busy) == (("mail",), 2, 1)
    assert process.beat_at == pytest.approx(time.time(), abs=20)
    assert process.started_at == pytest.approx(time.time(), abs=60)


async def test_exq_api_processes(at_work: House) -> None:
    assert [row.ident for row in await at_work.admin.busy()] == [at_work.app.store.ident]


async def test_exq_api_clear_processes(at_work: House) -> None:
    """The living stay on the list; Exq takes all off it."""
    at_work.server.cli("SADD", "processes", "gone:1:x")
    assert await at_work.admin.prune() == 1
    assert at_work.server.cli("SMEMBERS", "processes") == [at_work.app.store.ident]


async def test_exq_api_send_signal(at_work: House) -> None:
    quiet = asyncio.Event()
    at_work.app.attach("process.quiet", lambda _event: quiet.set())
    assert await at_work.admin.quiet_process(at_work.app.store.ident) is True
    await asyncio.wait_for(quiet.wait(), 10)
    ended = asyncio.create_task(at_work.app.wait_stopped())
    assert await at_work.admin.stop_process(at_work.app.store.ident) is True
    await asyncio.wait_for(ended, 10)
    assert await at_work.admin.signal("nobody:1:x", "TTIN") is False


async def test_exq_api_send_signal_cancel(at_work: House) -> None:
    """Where a job is when it is cancelled, and what becomes of it."""
    admin, running = at_work.admin, at_work.running
    assert await admin.cancel(running) == "running"
    assert await admin.cancel("nowhere") == "marked"
    marks = at_work.server.cli("ZRANGE", "kiq:cancels", 0, -1)
    assert marks == [f"+{running}", "+nowhere"]
    await eventually(lambda: at_work.jids("dead") == [running], "the job is stopped")
    assert payload(at_work.raw("dead")[0])["error_class"] == "kiqpy.Cancelled"
    assert not gates[-1].is_set()


async def test_a_job_that_began_since_the_last_heartbeat(clean: TestServer) -> None:
    """Found and cancelled by what its process holds, and shown whole however large it is."""
    gates.append(asyncio.Event())
    jobs = App(redis_url=clean.url, queues={"mail": 2}, workers=[hold, send], heartbeat_interval=9)
    async with jobs:
        receipt = await jobs.enqueue(hold.new(7))
        await eventually(lambda: not clean.cli("LLEN", "queue:mail"), "the job is claimed")
        assert await jobs.admin.busy() == []
        found = await jobs.admin.find(receipt.jid)
        assert found.row is not None
        assert (found.row.place, found.row.args, found.complete) == ("running", [7], True)
        assert await jobs.admin.cancel(receipt.jid) == "running"


# ---- Verk


async def test_verk_queue_count(house: House) -> None:
    house.put("queue:mail", raw_job("a"))
    assert await house.admin.size("queue:mail") == 1


async def test_verk_queue_clear(house: House) -> None:
    house.put("queue:mail", raw_job("a"))
    assert await house.admin.clear("queue:mail") == 1
    assert await house.admin.clear("queue:mail") == 0


async def test_verk_queue_range(house: House) -> None:
    house.put("queue:mail", *(raw_job(f"j{n}") for n in range(4)))
    assert names((await house.admin.jobs("queue:mail", per=2)).rows) == ["j0", "j1"]


async def test_verk_queue_delete_job(house: House) -> None:
    house.put("queue:mail", raw_job("a"), raw_job("b"))
    row = (await house.admin.jobs("queue:mail")).rows[0]
    assert (await house.admin.delete(row)).done == 1
    assert (await house.admin.delete(row)).gone == 1
    assert house.jids("queue:mail") == ["b"]


SETS = pytest.mark.parametrize("place", ["retry", "scheduled", "dead"])


@SETS
async def test_verk_sortedset_count(house: House, place: str) -> None:
    house.put(place, failed("a"))
    assert await house.admin.size(place) == 1


@SETS
async def test_verk_sortedset_clear(house: House, place: str) -> None:
    house.put(place, failed("a"))
    assert [await house.admin.clear(place), await house.admin.clear(place)] == [1, 0]


@SETS
async def test_verk_sortedset_range(house: House, place: str) -> None:
    house.put(place, failed("a"), failed("b"), UNREADABLE)
    rows = (await house.admin.jobs(place, newest=False)).rows
    assert [row.raw for row in rows] == [failed("a"), failed("b"), UNREADABLE]
    assert rows[2].job is None
    assert (rows[2].jid, rows[2].class_, rows[2].args) == ("", "", [])
    assert rows[2].error_class == "kiqpy.DecodeError"


@SETS
async def test_verk_sortedset_range_with_score(house: House, place: str) -> None:
    """Verk fails on scores that are no whole numbers."""
    house.put(place, failed("a"), score=1795226031.5)
    assert [row.at for row in (await house.admin.jobs(place)).rows] == [1795226031.5]


@SETS
async def test_verk_sortedset_delete_job(house: House, place: str) -> None:
    house.put(place, failed("a"), UNREADABLE)
    rows = (await house.admin.jobs(place)).rows
    assert (await house.admin.delete(rows)).done == 2
    assert (await house.admin.delete(rows)).gone == 2


@SETS
async def test_verk_sortedset_requeue_job(house: House, place: str) -> None:
    """Twice makes one copy; in Verk two."""
    house.put(place, failed("a"))
    [row] = (await house.admin.jobs(place)).rows
    first, second = await asyncio.gather(house.admin.requeue(row), house.admin.requeue(row))
    assert sorted([first.done, second.done]) == [0, 1]
    assert house.jids("queue:mail") == ["a"]


async def test_verk_deadset_add(house: House) -> None:
    """Only a job that is somewhere can be killed."""
    house.put("retry", failed("a", unique_token="T", unique_for=60))
    house.put("queue:mail", raw_job("b"))
    house.put("scheduled", raw_job("c"))
    house.server.cli("SET", "unique:T", "a", "EX", 1000)
    assert (await house.admin.kill(["a", "b", "c"])).done == 3
    a, b, c = (payload(raw) for raw in sorted(house.raw("dead"), key=lambda raw: raw[30:60]))
    assert (a["jid"], a["error_class"], a["retry_count"]) == ("a", "ValueError", 2)
    for job in (b, c):
        assert (job["error_class"], job["error_message"]) == ("kiqpy.Killed", "killed by hand")
        assert job["failed_at"] == pytest.approx(time.time(), abs=20)
    assert house.server.cli("EXISTS", "unique:T") == 0


async def test_verk_queuestats_all(at_work: House) -> None:
    """pausing: paused, and still something runs; paused: nothing runs any more."""
    admin = at_work.admin
    await admin.pause("mail")
    [queue] = await admin.queues()
    assert (queue.name, queue.paused, len(await admin.busy("mail"))) == ("mail", True, 1)
    gates[-1].set()

    async def is_idle() -> bool:
        return not await admin.busy("mail")

    await eventually(is_idle, "the queue is paused")
    await admin.resume("mail")
    assert await admin.paused() == []
    assert [tally.queue for tally in (await admin.stats()).queues] == ["mail"]


async def test_verk_workersmanager_running_jobs(at_work: House) -> None:
    await at_work.app.enqueue(hold.new(2))

    async def both() -> bool:
        return len(await at_work.admin.busy("mail")) == 2

    await eventually(both, "two jobs are running")
    assert len(await at_work.admin.busy("mail", most=1)) == 1
    assert await at_work.admin.busy("other") == []


async def test_verk_stats_total(house: House) -> None:
    house.server.cli("SET", "stat:processed", 9)
    assert (await house.admin.stats()).processed == 9


async def test_verk_stats_queue_total(house: House) -> None:
    house.server.cli("SET", "stat:processed:mail", 9)
    assert (await house.admin.stats()).queues == (("mail", 9, 0),)


async def test_verk_pause_queue(house: House) -> None:
    assert [await house.admin.pause("mail"), await house.admin.pause("mail")] == [True, False]
    assert house.server.cli("SMEMBERS", "paused") == ["mail"]


async def test_verk_resume_queue(house: House) -> None:
    await house.admin.pause("mail")
    assert [await house.admin.resume("mail"), await house.admin.resume("mail")] == [True, False]


async def test_verk_manager_status(house: House) -> None:
    await house.admin.pause("mail")
    assert [(row.name, row.paused) for row in await house.admin.queues()] == [("mail", True)]


# ---- Kiq


async def test_kiq_clear(at_work: House) -> None:
    with pytest.raises(StoreRefused, match="1 processes live"):
        await at_work.admin.clear_all()
    assert at_work.server.cli("EXISTS", "processes") == 1
    gates[-1].set()
    await at_work.app.stop()
    async with App(redis_url=at_work.server.url).client_only() as jobs:
        await jobs.enqueue(send.new(1))
        assert await jobs.admin.clear_all() > 0
    assert at_work.server.cli("DBSIZE") == 0


async def test_kiq_configure(at_work: House) -> None:
    """Quiet from within, as Kiq has it: nothing more is claimed, and the console shows it."""
    await at_work.app.quiet()

    async def is_shown() -> bool:
        return [process.quiet for process in await at_work.admin.processes()] == [True]

    await eventually(is_shown, "the process is shown as quiet")


async def test_kiq_clear_by_force(at_work: House) -> None:
    assert await at_work.admin.clear_all(force=True) > 0
    assert at_work.server.cli("KEYS", "stat:*") == []


# ---- what holds for all of them


async def test_it_needs_no_server(clean: TestServer) -> None:
    async with App(redis_url=clean.url, server=False) as jobs:
        assert (await jobs.admin.stats()).enqueued == 0
    with pytest.raises(LifecycleError, match="not started"):
        _ = jobs.admin


async def test_two_operators_requeue_the_same_500(house: House) -> None:
    house.put("dead", *(failed(f"j{n:03}") for n in range(500)))
    async with App(redis_url=house.server.url).client_only() as other:
        mine, theirs = await asyncio.gather(
            house.admin.retry_all("dead"), other.admin.retry_all("dead")
        )
    assert mine.done + theirs.done == 500
    assert sorted(house.jids("queue:mail")) == [f"j{n:03}" for n in range(500)]
    assert house.raw("dead") == []


async def test_all_goes_page_by_page_and_tells_how_far_it_is(house: House) -> None:
    house.put("retry", *(failed(f"j{n:03}") for n in range(250)))
    told: list[tuple[int, int]] = []
    result = await house.admin.requeue_all("retry", progress=lambda *said: told.append(said))
    assert result.done == 250
    assert told == [(100, 250), (200, 250), (250, 250)]
    assert (await house.admin.requeue_all("retry")).done == 0


async def test_all_steps_over_what_it_can_not_move(house: House) -> None:
    """Unreadable entries are told of, and stay; they can be deleted."""
    bad = [UNREADABLE + b"%d" % n for n in range(150)]
    house.put("dead", *bad, score=1.0)
    house.put("dead", *(failed(f"j{n:03}") for n in range(150)))
    result = await house.admin.retry_all("dead")
    assert (result.done, result.unreadable) == (150, 150)
    assert house.raw("dead") == bad
    assert (await house.admin.retry_all("dead")).unreadable == 150
    assert (await house.admin.delete_all("dead")).done == 150
    assert house.raw("dead") == []


async def test_jobs_that_died_beside_a_culprit_are_brought_back(house: House) -> None:
    """Only those, with their crashes forgotten: the next one does not bury them at once."""
    crashes = {"recovered": 4, "recovered_at": time.time(), "error_class": "kiqpy.Poison"}
    for n in range(130):
        house.put("dead", failed(f"other{n:03}"), score=2 * n)
        house.put("dead", raw_job(f"j{n:03}", **crashes), score=2 * n + 1)
    result = await house.admin.retry_all("dead", poisoned=True)
    assert (result.done, result.gone) == (130, 0)
    assert house.jids("dead") == [f"other{n:03}" for n in range(130)]
    back = [payload(raw) for raw in house.raw("queue:mail")]
    assert sorted(job["jid"] for job in back) == [f"j{n:03}" for n in range(130)]
    assert not any(job.keys() & {"recovered", "recovered_at"} for job in back)


async def test_all_leaves_alone_what_comes_meanwhile(house: House) -> None:
    house.put("dead", *(failed(f"j{n:03}") for n in range(150)))
    later = [failed(f"k{n:03}") for n in range(100)]
    result = await house.admin.retry_all(
        "dead", progress=lambda *_: house.put("dead", *later, score=3e9)
    )
    assert result.done == 150
    assert house.raw("dead") == later


async def test_unreadable_jobs_of_a_queue(house: House) -> None:
    house.put("queue:mail", UNREADABLE, raw_job("a"))
    rows = (await house.admin.jobs("queue:mail")).rows
    assert [row.queue for row in rows] == ["mail", "mail"]
    assert (await house.admin.kill(rows[0])).done == 1
    assert house.raw("dead") == [UNREADABLE]
    [dead] = (await house.admin.jobs("dead")).rows
    assert (await house.admin.retry(dead)).unreadable == 1
    assert house.raw("dead") == [UNREADABLE]


@pytest.mark.parametrize("act", ["kill", "delete"])
async def test_all_of_a_queue(house: House, act: str) -> None:
    house.put("queue:mail", *(raw_job(f"j{n:03}") for n in range(250)), UNREADABLE)
    result = await getattr(house.admin, f"{act}_all")("queue:mail")
    assert result.done == 251
    assert house.raw("queue:mail") == []
    assert len(house.raw("dead")) == (251 if act == "kill" else 0)


async def test_locks_of_all_are_kept_or_freed(house: House) -> None:
    for unlock in (False, True):
        house.put("retry", failed("a", unique_token="T", unique_until="expiry"))
        house.server.cli("SET", "unique:T", "a", "EX", 1000)
        assert (await house.admin.delete_all("retry", unlock=unlock)).done == 1
        assert house.server.cli("EXISTS", "unique:T") == int(not unlock)


@pytest.mark.parametrize("until", ["success", "start", "expiry"])
@pytest.mark.parametrize("act", ["kill", "cancel", "cancel for good"])
async def test_kill_and_cancel_free_a_lock_but_one_until_expiry(
    house: House, until: str, act: str
) -> None:
    house.put("retry", failed("a", unique_token="T", unique_until=until))
    house.server.cli("SET", "unique:T", "a", "EX", 1000)
    if act == "kill":
        assert (await house.admin.kill("a")).done == 1
    else:
        assert await house.admin.cancel("a", keep=act == "cancel") == "retry"
    assert house.server.cli("EXISTS", "unique:T") == int(until == "expiry")


async def test_a_lock_of_a_newer_job_stays(house: House) -> None:
    house.put("retry", failed("old", unique_token="T"))
    house.server.cli("SET", "unique:T", "newer", "EX", 1000)
    assert (await house.admin.delete("old", unlock=True)).done == 1
    assert house.server.cli("GET", "unique:T") == "newer"


async def test_a_search_gives_up_and_says_so(house: House) -> None:
    house.put("retry", *(failed(f"j{n:04}") for n in range(1500)))
    found = await house.admin.find("none", "retry", most=500)
    assert (found.row, found.complete) == (None, False)
    assert 500 <= found.searched <= 1000
    found = await house.admin.find("none", "retry")
    assert (found.searched, found.complete) == (1500, True)


async def test_a_job_is_found_wherever_it_is(at_work: House) -> None:
    at_work.put("retry", failed("r"))
    at_work.put("scheduled", raw_job("s"))
    at_work.put("dead", failed("d"))
    at_work.put("queue:other", raw_job("q"))
    running = at_work.running
    expected = {"r": "retry", "s": "scheduled", "d": "dead", "q": "queue:other",
                running: "running", "none": None}  # fmt: skip
    for jid, place in expected.items():
        row = (await at_work.admin.find(jid)).row
        assert (row.place if row else None) == place
    row = (await at_work.admin.find(running)).row
    assert row is not None
    with pytest.raises(ArgumentError, match=r"cancel\(jid\) stops it"):
        await at_work.admin.delete(row)


async def test_a_jid_in_the_arguments_of_another_job_is_not_that_job(house: House) -> None:
    house.put("retry", failed("a", args=["b"]), failed("b"))
    assert (await house.admin.delete("b")).done == 1
    assert house.jids("retry") == ["a"]


@pytest.mark.parametrize(
    ("place", "was"), [("scheduled", "scheduled"), ("retry", "retry"), ("queue:mail", "queued")]
)
@pytest.mark.parametrize("keep", [True, False])
async def test_cancel_of_a_job_at_rest(house: House, place: str, was: str, keep: bool) -> None:
    house.put(place, failed("a", unique_token="T"), failed("b"))
    house.server.cli("SET", "unique:T", "a", "EX", 1000)
    assert await house.admin.cancel("a", keep=keep) == was
    assert house.jids(place) == ["b"]
    assert house.server.cli("EXISTS", "unique:T") == 0
    if keep:
        [dead] = house.raw("dead")
        job = payload(dead)
        assert (job["error_class"], job["error_message"]) == ("kiqpy.Cancelled", "cancelled")
    else:
        assert house.raw("dead") == []
    assert house.server.cli("ZRANGE", "kiq:cancels", 0, -1) == ["+a" if keep else "-a"]


async def test_a_cancelled_job_that_is_retried_is_not_cancelled_any_more(house: House) -> None:
    house.put("retry", failed("a"))
    await house.admin.cancel("a")
    assert (await house.admin.retry("a")).done == 1
    assert house.server.cli("ZRANGE", "kiq:cancels", 0, -1) == ["=a"]


async def test_a_namespace_of_its_own(clean: TestServer) -> None:
    async with App(redis_url=clean.url, namespace="{shop}:").client_only() as jobs:
        receipt = await jobs.enqueue(send.new(1))
        clean.cli("LPUSH", "queue:mail", raw_job("foreign"))
        assert names((await jobs.admin.jobs("queue:mail")).rows) == [receipt.jid]
        await jobs.admin.pause("mail")
        assert clean.cli("SMEMBERS", "{shop}:paused") == ["mail"]
        await jobs.admin.clear_all()
        assert clean.cli("KEYS", "*") == ["queue:mail"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda admin: admin.jobs("retries"), "did you mean 'retry'"),
        (lambda admin: admin.jobs("mail"), "say 'queue:mail'"),
        (lambda admin: admin.jobs("queue:a b"), "queue name 'a b'"),
        (lambda admin: admin.jobs("queue:"), "queue name ''"),
        (lambda admin: admin.jobs("retry", page=0), "pages begin at 1"),
        (lambda admin: admin.jobs("retry", page=-3), "page=-3"),
        (lambda admin: admin.jobs("retry", per=0), "per=0: give 1 to 1,000"),
        (lambda admin: admin.jobs("retry", per=5000), "per=5000"),
        (lambda admin: admin.stats(days=-1), "days=-1"),
        (lambda admin: admin.find(""), "a jid is needed"),
        (lambda admin: admin.find("a", most=0), "most=0"),
        (lambda admin: admin.find("a", "queue:mail", score=1.0), "has no scores"),
        (lambda admin: admin.delete([""]), "a jid is empty"),
        (lambda admin: admin.cancel(""), "a jid is needed"),
        (lambda admin: admin.signal("x", "TSPT"), "did you mean 'TSTP'"),
        (lambda admin: admin.signal("x", "KILL"), "TSTP, CONT, TERM, TTIN"),
        (lambda admin: admin.pause("a b"), "queue name 'a b'"),
        (lambda admin: admin.retry_all("queue:mail"), "in their queue already"),
        (lambda admin: admin.kill_all("dead"), "dead already"),
        (lambda admin: admin.delete(JobRow("running", None, b"")), "cancel"),
        (lambda admin: admin.retry("a", place="ded"), "did you mean 'dead'"),
    ],
)
async def test_what_is_wrong_is_said(house: House, call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        await call(house.admin)


@pytest.mark.parametrize("name", ["two words", "очередь", "a/b", "q" * 200, "queue:x", "é|*?"])
async def test_a_queue_that_another_program_has_named_is_one_like_others(
    house: House, name: str
) -> None:
    """It was listed, and could not be paged, searched, paused or cleared."""
    admin, place = house.admin, f"queue:{name}"
    house.put(place, *(raw_job(jid, name) for jid in "abcd"))
    house.put("retry", failed("e", queue=name))
    assert name in [row.name for row in await admin.queues()]
    assert await admin.size(place) == 4
    assert [row.jid for row in (await admin.jobs(place)).rows] == ["a", "b", "c", "d"]
    assert [row.jid for row in (await admin.search(place, "b", fields=["jid"])).rows] == ["b"]
    assert (found := (await admin.find("c")).row) is not None
    assert found.place == place
    assert [row.jid for row in await admin.locate(place, [admin.token(found)])] == ["c"]
    assert await admin.pause(name)
    assert await admin.paused() == [name]
    assert await admin.resume(name)
    assert await admin.cancel("a") == "queued"
    assert (await admin.kill("b")).done == 1
    assert (await admin.delete("c", place)).done == 1
    assert (await admin.retry("e")).done == 1
    assert house.jids(place) == ["d", "e"]
    assert (await admin.kill_all(place)).done == 2
    house.put(place, raw_job("f", name))
    assert await admin.clear(place) == 1
    with pytest.raises(ArgumentError, match="queue name"):
        await admin.pause("no such queue")


async def test_keys_is_never_sent(house: House) -> None:
    house.put("dead", failed("a"))
    house.put("queue:mail", raw_job("b"))
    house.server.cli("CONFIG", "RESETSTAT")
    admin = house.admin
    await admin.stats()
    await admin.find("none")
    await admin.jobs("dead")
    await admin.retry_all("dead")
    await admin.cancel("b")
    await admin.prune()
    await admin.clear_all()
    used = str(house.server.cli("INFO", "commandstats"))
    assert "cmdstat_zrevrange" in used
    assert "cmdstat_keys:" not in used


def test_each_call_of_the_guide_has_its_test() -> None:
    """Verk's three kinds of sets have one test, for each of the three."""
    table = re.findall(r"^\| (`.+?) \| (.+) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    kept = [calls for calls, here in table if not here.startswith("not kept")]
    wanted = {
        re.sub(r"_(retry|dead)set_(?!add)", "_sortedset_", re.sub(r"\W+", "_", name.lower()))
        for calls in kept
        for name in re.findall(r"`([\w.]+)", calls)
    }
    assert len(wanted) > 40
    assert sorted(name for name in wanted if f"test_{name}" not in globals()) == []


# -- what an operator moves can be read by all who share the Redis


@pytest.mark.parametrize("act", ["kill", "cancel", "retry", "requeue"])
async def test_what_is_moved_is_mended_for_ruby(house: House, act: str) -> None:
    """Text as tags and times takes Sidekiq's pages down; `at` would send the job back."""
    place = "queue:mail" if act in ("kill", "cancel") else "retry"
    house.put(place, raw_job("a", tags="x", at=5.0, created_at="2026-11-28"))
    if act == "cancel":
        await house.admin.cancel("a")
    else:
        await getattr(house.admin, act)(["a"])
    (moved,) = house.raw("dead" if act in ("kill", "cancel") else "queue:mail")
    found = payload(moved)
    assert found["tags"] == ["x"]
    assert not found.keys() & {"at", "created_at"}


async def test_equal_bytes_stay_as_many_as_they_were(house: House) -> None:
    """A sorted set holds a member once: jobs without a jid, and what is no job, get one."""
    bare = b'{"class":"Send","args":[1],"queue":"mail"}'
    house.put("queue:mail", *[bare] * 5, *[b"[1]"] * 5)
    await house.admin.kill_all("queue:mail")
    assert len(house.raw("dead")) == 10
    await house.admin.requeue_all("dead")
    assert sorted(house.raw("queue:mail"))[:5] == [b"[1]"] * 5


async def test_what_ruby_can_not_read_is_moved_as_it_is(house: House) -> None:
    deep = raw_job("a").replace(b"[1]", b"[" * 120 + b"]" * 120)
    house.put("queue:mail", deep)
    await house.admin.kill(["a"])
    assert house.raw("dead") == [deep]

"""Local jobs: they begin in the process that enqueues them, and Redis is their backup."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from kiqpy import App, ConfigError, Job, LifecycleError, Snooze, Worker, current_job, worker
from kiqpy.event import Event
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
ran: list[tuple[str, Any]] = []
gates: list[asyncio.Event] = []  # of the test that runs, for events belong to a loop


@pytest.fixture(autouse=True)
def fresh() -> None:
    gates[:] = [asyncio.Event()]
    ran.clear()


async def _body(what: Any) -> Any:
    ran.append((current_job().jid, what))
    if what == "wait":
        await gates[-1].wait()
    elif what == "raise" or (what == "once" and current_job().retry_count < 0):
        raise ValueError("no")
    elif what == "snooze":
        return Snooze(1000)
    return None


@worker(local=True, backoff="immediate", retry=3)
async def before(what: Any) -> Any:
    return await _body(what)


@worker(local=True, persist="alongside", backoff="immediate", retry=3)
async def alongside(what: Any) -> Any:
    return await _body(what)


@worker(local=True, persist="never")
async def never(what: Any) -> Any:
    return await _body(what)


@worker(local=True, persist="alongside", max_concurrency=1)
async def narrow(what: Any) -> Any:
    return await _body(what)


@worker(local=True, unique_for=60)
async def unique(what: Any) -> Any:
    return await _body(what)


@worker(local=True, persist="alongside", expires_in=60)
async def expiring(what: Any) -> Any:
    return await _body(what)


@worker(local=True, codecs=[UUID, datetime], persist="alongside", backoff="immediate", retry=1)
async def typed(key: UUID, *, at: datetime, fail: bool = False) -> None:
    ran.append((current_job().jid, (key, at)))
    if fail and current_job().retry_count < 0:
        raise ValueError("no")


@worker(local=True, persist="alongside")
def threaded(what: Any) -> None:
    ran.append((current_job().jid, what))


class Shouting(Worker):
    local = True
    persist = "alongside"

    async def perform(self, what: Any) -> None:
        ran.append((self.job.jid, what))


WORKERS = [before, alongside, never, narrow, unique, expiring, typed, threaded, Shouting]
LOCAL = [before, alongside, never]


def app_on(server: TestServer, **options: Any) -> App:
    options = {"poll_interval": 0.05, "heartbeat_interval": 0.2, "suspicion": 0.4} | options
    return App(redis_url=server.url, workers=WORKERS, **options)


@pytest.fixture
async def jobs(clean: TestServer) -> AsyncIterator[App]:
    async with app_on(clean) as app:
        yield app


def told(count: int) -> Any:
    return eventually(lambda: len(ran) >= count, f"{count} runs")


def queue(server: TestServer, name: str = "queue:local") -> list[dict[str, Any]]:
    found = server.cli("LRANGE", name, 0, -1)
    assert isinstance(found, list)
    return [json.loads(str(raw)) for raw in found]


def backups(server: TestServer) -> int:
    keys = server.cli("KEYS", "kiq:private|*|local")
    assert isinstance(keys, list)
    return sum(int(str(server.cli("HLEN", str(key)))) for key in keys)


def processed(server: TestServer) -> int:
    return int(str(server.cli("GET", "stat:processed") or 0))


# -- where they run, and with what


@pytest.mark.parametrize("kind", LOCAL)
async def test_it_gets_the_very_objects_that_were_enqueued(jobs: App, kind: Any) -> None:
    order = {"id": 7, "lines": [1, 2]}
    receipt = await jobs.enqueue(kind.new(order))
    await told(1)
    assert ran[0] == (receipt.jid, order)
    assert ran[0][1] is order


@pytest.mark.parametrize(
    ("kind", "state"), [(before, "queued"), (alongside, "buffered"), (never, "buffered")]
)
async def test_the_receipt_says_how_far_it_has_come(jobs: App, kind: Any, state: str) -> None:
    assert (await jobs.enqueue(kind.new("x"))).state == state


async def test_arguments_with_codecs_and_keywords_stay_the_same_objects(jobs: App) -> None:
    key, at = uuid4(), datetime.now(UTC)
    await jobs.enqueue(typed.new(key, at=at))
    await told(1)
    assert ran[0][1][0] is key
    assert ran[0][1][1] is at


async def test_they_travel_by_codecs_when_the_job_is_tried_again(jobs: App) -> None:
    key, at = uuid4(), datetime.now(UTC)
    receipt = await jobs.enqueue(typed.new(key, at=at, fail=True))
    await told(2)
    assert ran[1] == (receipt.jid, (key, at))
    assert ran[1][1][0] is not key


async def test_classes_and_threads_too(jobs: App) -> None:
    things: list[dict[str, int]] = [{"n": 1}, {"n": 2}]
    await jobs.enqueue(Shouting.new(things[0]))
    await jobs.enqueue(threaded.new(things[1]))
    await told(2)
    assert {id(what) for _, what in ran} == {id(thing) for thing in things}


async def test_many_at_once_and_from_a_thread(jobs: App) -> None:
    await jobs.enqueue_many([alongside.new(n) for n in range(5)], atomic=False)
    await jobs.enqueue_many([before.new(n) for n in range(5)])
    await asyncio.to_thread(jobs.enqueue_nowait, before.new("thread"))
    await asyncio.to_thread(jobs.enqueue_sync, alongside.new("sync"))
    await told(12)
    assert len({jid for jid, _ in ran}) == 12


async def test_many_are_confirmed_together(jobs: App, clean: TestServer) -> None:
    sent = calls(clean, "evalsha") + calls(clean, "eval")
    receipts = await jobs.enqueue_many([before.new(n) for n in range(200)], atomic=False)
    assert {receipt.state for receipt in receipts} == {"queued"}
    await told(200)
    assert [what for _, what in ran] == list(range(200))
    assert calls(clean, "evalsha") + calls(clean, "eval") - sent < 50


async def test_a_middleware_that_changes_the_arguments_is_obeyed(clean: TestServer) -> None:
    async def changing(job: Any, call_next: Any) -> Any:
        job.payload["args"] = ["changed"]
        return await call_next(job)

    async with app_on(clean, client_middleware=[changing]) as jobs:
        await jobs.enqueue(alongside.new("as it was"))
        await told(1)
    assert [what for _, what in ran] == ["changed"]


async def test_a_job_made_by_hand_goes_through_redis(jobs: App) -> None:

    await jobs.enqueue(Job("alongside", ["by hand"]))
    await told(1)
    assert ran[0][1] == "by hand"


# -- what is written


async def test_a_job_is_on_record_before_it_begins(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(before.new("wait"))
    assert backups(clean) == 1
    await told(1)
    gates[-1].set()
    await eventually(lambda: backups(clean) == 0, "settled")
    assert processed(clean) == 1


def calls(server: TestServer, command: str) -> int:
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", str(server.cli("INFO", "commandstats")))
    return int(found[1]) if found else 0


async def test_what_ends_well_at_once_is_only_counted(jobs: App, clean: TestServer) -> None:
    settled = calls(clean, "hdel")
    await jobs.enqueue_many([never.new(n) for n in range(50)], atomic=False)
    await told(50)
    await eventually(lambda: processed(clean) == 50, "counted")
    assert calls(clean, "hdel") == settled
    assert backups(clean) == 0


async def test_a_backup_is_written_alongside(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(alongside.new("wait"))
    await eventually(lambda: backups(clean) == 1, "backed up")
    gates[-1].set()
    await eventually(lambda: backups(clean) == 0, "settled")


async def test_never_means_never_while_all_goes_well(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(never.new("wait"))
    await told(1)
    await jobs.flush()
    assert backups(clean) == 0
    gates[-1].set()
    await eventually(lambda: processed(clean) == 1, "counted")


# -- failing, waiting, ending


@pytest.mark.parametrize("kind", LOCAL)
async def test_a_failed_job_is_tried_again_with_its_count(
    jobs: App, clean: TestServer, kind: Any
) -> None:
    counts: list[int] = []
    jobs.attach("job.failure", lambda event: counts.append(event.job.retry_count))
    receipt = await jobs.enqueue(kind.new("once"))
    if kind is never:  # its backoff is Sidekiq's
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "in the retry set")
        [raw] = clean.cli("ZRANGE", "retry", 0, -1)  # type: ignore[misc]
        assert json.loads(str(raw))["retry_count"] == 0
        return
    await told(2)
    assert {jid for jid, _ in ran} == {receipt.jid}
    await eventually(lambda: backups(clean) == 0 and processed(clean) == 2, "settled")


async def test_a_job_that_always_fails_dies(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(alongside.new("raise"))
    await eventually(lambda: clean.cli("ZCARD", "dead") == 1, "dead")
    assert len(ran) == 4
    [raw] = clean.cli("ZRANGE", "dead", 0, -1)  # type: ignore[misc]
    assert json.loads(str(raw))["retry_count"] == 3


async def test_a_delay_is_kept_in_redis(jobs: App, clean: TestServer) -> None:
    receipt = await jobs.enqueue(alongside.new("later"), in_=1000)
    assert receipt.state == "scheduled"
    await jobs.enqueue(alongside.new("soon"), in_=0.05)
    await told(1)
    assert clean.cli("ZCARD", "schedule") == 1


async def test_a_snoozed_job_waits_in_redis(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(never.new("snooze"))
    await eventually(lambda: clean.cli("ZCARD", "schedule") == 1, "snoozed")


async def test_max_concurrency(jobs: App) -> None:
    for _ in range(3):
        await jobs.enqueue(narrow.new("wait"))
    await told(1)
    await jobs.flush()
    assert len(ran) == 1
    gates[-1].set()
    await told(3)


async def test_a_second_unique_job_is_a_duplicate(jobs: App, clean: TestServer) -> None:
    first = await jobs.enqueue(unique.new("wait"))
    second = await jobs.enqueue(unique.new("wait"))
    assert (second.state, second.jid) == ("duplicate", first.jid)
    gates[-1].set()
    await eventually(lambda: clean.cli("KEYS", "unique:*") == [], "unlocked")
    assert (await jobs.enqueue(unique.new("wait"))).state == "queued"
    await told(2)


async def test_a_job_that_waited_for_too_long_is_not_run(jobs: App) -> None:
    aborted: list[Event] = []
    jobs.attach("job.aborted", aborted.append)
    job = expiring.new("x")
    job.payload["expires_in"] = 0.000001
    await jobs.enqueue(job)
    await eventually(lambda: aborted, "expired")
    assert not ran


async def test_a_running_job_can_be_cancelled(jobs: App, clean: TestServer) -> None:
    receipt = await jobs.enqueue(alongside.new("wait"))
    await told(1)
    await jobs.admin.cancel(receipt.jid)
    await eventually(lambda: clean.cli("ZCARD", "dead") == 1, "cancelled")


async def test_reporters_and_events_are_told(jobs: App) -> None:
    told_of: list[str] = []
    jobs.attach("job.*", lambda event: told_of.append(event.name))
    await jobs.enqueue(alongside.new("x"))
    await eventually(lambda: "job.stopped" in told_of, "told")
    assert told_of == ["job.enqueued", "job.started", "job.success", "job.stopped"]


async def test_a_paused_queue_pauses_them(jobs: App, clean: TestServer) -> None:
    await jobs.pause("local")
    await eventually(lambda: not _claims(jobs), "paused")
    await jobs.enqueue(alongside.new("x"))
    await jobs.flush()
    assert not ran
    await jobs.resume("local")
    await told(1)


def _claims(jobs: App) -> bool:
    engine = jobs._lifecycle.running()
    pipeline = engine.pipelines.find("local")
    assert pipeline is not None
    return not pipeline.source._is_paused  # type: ignore[attr-defined]


# -- another process


async def test_a_quiet_process_leaves_them_to_others(clean: TestServer) -> None:
    async with app_on(clean) as quiet:
        await quiet.quiet()
        assert (await quiet.enqueue(alongside.new("x"))).state == "queued"
        assert len(queue(clean)) == 1
        async with app_on(clean):
            await told(1)


@pytest.mark.parametrize("kind", LOCAL)
async def test_what_has_not_begun_at_a_stop_goes_to_others(clean: TestServer, kind: Any) -> None:
    jids: list[str] = []
    async with app_on(clean, shutdown_timeout=0) as jobs:
        pipeline = jobs._lifecycle.running().pipelines.find("local")
        assert pipeline is not None
        pipeline.scale(1)
        jids.append((await jobs.enqueue(kind.new("wait"))).jid)
        await told(1)
        jids += [(await jobs.enqueue(kind.new(n))).jid for n in range(5)]
    # Each goes to the head of the queue: those that had not begun, before the one that had.
    waiting = [*jids[1:], jids[0]]
    assert [job["jid"] for job in reversed(queue(clean))] == waiting
    assert backups(clean) == 0
    ran.clear()
    gates[-1].set()
    async with app_on(clean):
        await told(6)
    assert [jid for jid, _ in ran] == waiting
    await eventually(lambda: processed(clean) == 6, "settled")


async def test_a_job_that_a_running_one_enqueues_at_a_stop_goes_to_redis(
    clean: TestServer,
) -> None:
    @worker(local=True, persist="alongside")
    async def parent() -> None:
        await gates[-1].wait()
        await jobs.enqueue(alongside.new("child"))

    jobs = App(redis_url=clean.url, workers=[*WORKERS, parent])
    await jobs.start()
    await jobs.enqueue(parent.new())
    stopping = asyncio.create_task(jobs.stop())
    await eventually(lambda: not jobs.started, "stopping")
    gates[-1].set()
    await stopping
    assert [job["args"] for job in queue(clean)] == [["child"]]


async def test_beyond_the_bound_they_go_to_redis(clean: TestServer) -> None:
    async with app_on(clean, buffer_limit=3) as jobs:
        pipeline = jobs._lifecycle.running().pipelines.find("local")
        assert pipeline is not None
        pipeline.scale(1)
        for _ in range(5):
            await jobs.enqueue(never.new("wait"))
        assert len(queue(clean)) == 2
        gates[-1].set()
        await told(5)


# -- Redis is away


async def test_they_run_while_redis_is_away(clean: TestServer) -> None:
    fenced: list[Event] = []
    async with app_on(clean) as jobs:
        jobs.attach("job.fenced", fenced.append)
        await jobs.enqueue(alongside.new("first"))
        await told(1)
        await eventually(lambda: processed(clean) == 1 and backups(clean) == 0, "settled")
        clean.kill()  # and all that it held is lost
        for n in range(1500):  # more than run at a time
            await jobs.enqueue(alongside.new(n))
            await jobs.enqueue(never.new(n))
        await jobs.enqueue(alongside.new("once"))
        await told(3002)
        clean.start()
        await told(3003)  # the retry
        await jobs.flush()
        await eventually(lambda: processed(clean) >= 3002, "counted")
        assert backups(clean) == 0
    assert not fenced
    assert clean.cli("ZCARD", "retry") == 0


async def test_a_backup_that_must_come_first_is_waited_for(clean: TestServer) -> None:
    async with app_on(clean, confirm_timeout=0.05) as jobs:
        await jobs.enqueue(before.new("first"))
        clean.kill()
        assert (await jobs.enqueue(before.new("second"))).state == "buffered"
        assert "second" not in [what for _, what in ran]
        assert jobs.client.snapshot().buffered == 1
        clean.start()
        await told(2)


async def test_a_stop_without_redis_says_what_is_not_durable(
    clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = app_on(clean, shutdown_timeout=0)
    await jobs.start()
    await jobs.enqueue(never.new("wait"))
    await told(1)
    clean.kill()
    await jobs.stop()
    assert "1 accepted jobs could not be made durable" in caplog.text


# -- bad input


def test_persist_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"persist='beside': give 'before', 'alongside' or"):
        worker(local=True, persist="beside")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r"persist='never' has no effect without local=True"):
        worker(persist="never")
    with pytest.raises(ConfigError, match=r'unique_for needs persist="before"'):
        worker(local=True, persist="alongside", unique_for=60)
    with pytest.raises(ConfigError, match=r"using\(persist=...\)"):
        alongside.using(persist="never")  # type: ignore[call-arg]


def test_a_local_queue_is_not_declared() -> None:
    with pytest.raises(ConfigError, match=r"queue 'local' is declared, and a local worker"):
        App(queues={"local": 5}, workers=[alongside])


async def test_an_app_that_only_enqueues_refuses_them(clean: TestServer) -> None:
    async with app_on(clean).client_only() as jobs:
        with pytest.raises(LifecycleError, match="of a local worker, which runs where it is"):
            await jobs.enqueue(alongside.new("x"))
        with pytest.raises(LifecycleError, match="start the app as a server"):
            jobs.enqueue_nowait(alongside.new("x"))
        with pytest.raises(LifecycleError):
            await jobs.enqueue_many([alongside.new("x"), alongside.new("y")])
    assert not queue(clean)


# -- tests of users


async def test_a_users_test_drains_them() -> None:
    async with App(workers=WORKERS).testing() as t:
        jobs = t._engine.enqueuer
        await jobs.one(alongside.new("x"), None, None)
        await jobs.one(before.new("raise"), None, None)
        t.assert_enqueued(alongside, ["x"])
        assert not ran
        await t.drain()
        assert [what for _, what in ran] == ["x", "raise"]
        assert len(t.retries) == 1


@pytest.mark.parametrize("mode", ["sandbox", "inline"])
async def test_in_test_modes_they_are_recorded_like_others(mode: Any) -> None:
    async with App(workers=WORKERS, test_mode=mode) as jobs:
        await jobs.enqueue(alongside.new("x"))
        assert [what for _, what in ran] == (["x"] if mode == "inline" else [])


async def test_a_tag_that_no_codec_knows_fails_the_job_and_loses_nothing(
    jobs: App, clean: TestServer
) -> None:
    """It comes from another version, through Redis."""
    job = typed.new(uuid4(), at=datetime.now(UTC))
    args = json.loads(json.dumps(job.payload["args"]).replace('"UUID"', '"Ulid"'))
    await jobs.enqueue(Job("typed", args, queue="local", retry=0))
    await eventually(lambda: clean.cli("ZCARD", "dead") == 1, "dead")
    [raw] = clean.cli("ZRANGE", "dead", 0, -1)  # type: ignore[misc]
    dead = json.loads(str(raw))
    assert "'Ulid', which this worker does not list" in dead["error_message"]
    assert dead["args"] == args
    assert not ran

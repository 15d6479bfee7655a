"""`async with jobs.testing() as t`: what a test can see and do, and what a failure says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiqpy import (
    App,
    ConfigError,
    Discard,
    Job,
    LifecycleError,
    Receipt,
    Snooze,
    Worker,
    env,
    worker,
)
from kiqpy.queues import QueueGroup
from kiqpy.testing import AppTester, Drained
from kiqpy.testing._sandbox.environment import recorder_of

pytestmark = pytest.mark.anyio

ran: list[Any] = []
start = datetime(2027, 3, 1, 11, 59, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@worker(queue="mail")
async def welcome(user_id: int, template: str = "plain", *, lang: str = "en") -> None:
    ran.append((user_id, template, lang))


@worker
async def count_down(n: int) -> None:
    ran.append(n)
    if n > 0:
        await count_down.enqueue(n - 1)


@worker(retry=2)
async def fail(n: int) -> None:
    ran.append(n)
    raise ValueError(f"no {n}")


@worker
async def signal(how: str) -> Any:
    return Snooze(60) if how == "snooze" else Discard(how)


@worker
def in_thread(n: int) -> None:
    time.sleep(0.02)
    ran.append(n)


@worker
async def slow(seconds: float) -> None:
    await asyncio.sleep(seconds)
    ran.append(seconds)


class Export(Worker, queue="exports"):
    async def perform(self, options: dict[str, Any]) -> None:
        ran.append(options)


class Jobs(App):
    queues = {"default": 5, "mail": 5, "exports": 1}
    workers = [welcome, count_down, fail, signal, in_thread, slow, Export]


jobs = Jobs()


def refusal(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """What an assertion says when it fails."""
    with pytest.raises(AssertionError) as info:
        call(*args, **kwargs)
    return str(info.value)


# -- what was enqueued


async def test_enqueued_jobs_stay_where_they_are() -> None:
    async with jobs.testing() as t:
        receipt = await jobs.enqueue(welcome.new(1))
        await welcome.enqueue(2)
        jobs.enqueue_nowait(count_down.new(3))
        await jobs.enqueue_many([Export.new({"a": 1}), Job("Ruby::Worker", [4], queue="ruby")])
        await asyncio.to_thread(jobs.enqueue_sync, welcome.new(5))
        await t.tick(3600)
        assert (receipt.state, ran) == ("queued", [])
        assert [job.class_ for job in t.enqueued] == [
            *("welcome", "welcome", "count_down", "Export", "Ruby::Worker", "welcome"),
        ]
        assert len(t.queued) == 6
        assert [job.args[0] for job in t.jobs(welcome)] == [1, 2, 5]
        assert [job.class_ for job in t.jobs(queue="exports")] == ["Export"]


async def test_a_job_given_without_waiting_is_seen_at_once() -> None:
    async with jobs.testing() as t:
        jobs.enqueue_nowait(welcome.new(7))
        t.assert_enqueued(welcome, args=[7])
        assert (await t.drain()).done == 1


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"args": [7, "rich"]},
        {"args": [7, "rich", {"lang": "fr"}]},
        {"args": (7, "rich")},
        {"args": {"user_id": 7}},
        {"args": {"template": "rich", "lang": "fr"}},
        {"queue": "mail", "retry": True},
        {"in_": 60},
        {"in_": timedelta(minutes=1)},
        {"at": start + timedelta(minutes=1)},
        {"count": 1, "args": [7, "rich", {"lang": "fr"}]},
        {"tags": ["new"]},
    ],
)
async def test_only_the_given_fields_are_compared(expected: dict[str, Any]) -> None:
    async with jobs.testing(now=start) as t:
        await welcome.using(tags=["new"], in_=60).enqueue(7, "rich", lang="fr")
        await jobs.enqueue(Export.new({"format": "csv"}))
        for who in (welcome, "welcome"):
            assert t.assert_enqueued(who, **expected).args[0] == 7
        with pytest.raises(AssertionError):
            t.refute_enqueued(welcome, **{k: v for k, v in expected.items() if k != "count"})


@pytest.mark.parametrize(
    ("expected", "why"),
    [
        ({"args": [8]}, "args: expected [8], got [7, 'rich', {'lang': 'fr'}]"),
        ({"args": [7]}, "args: expected [7], got [7, 'rich', {'lang': 'fr'}]"),
        ({"args": [7, "rich", {}, 1]}, "args: expected"),
        ({"args": {"lang": "de"}}, "args: lang: expected 'de', got 'fr'"),
        ({"args": {"language": "fr"}}, "there is no 'language', only user_id, template, lang"),
        ({"queue": "default"}, "queue: expected 'default', got 'mail'"),
        ({"in_": 61}, "in_: expected 61, got 60 s"),
        ({"at": start}, "got 2027-03-01 12:00:00+00:00"),
        ({"quue": "mail"}, "quue: expected 'mail', but the job has no such field"),
    ],
)
async def test_what_does_not_fit_is_named(expected: dict[str, Any], why: str) -> None:
    async with jobs.testing(now=start) as t:
        await jobs.enqueue(welcome.new(7, "rich", lang="fr"), in_=60)
        said = refusal(t.assert_enqueued, welcome, **expected)
        assert why in said
        assert said.startswith("Expected a job of welcome with ")
        t.refute_enqueued(welcome, **expected)


async def test_of_an_object_only_the_named_keys_count() -> None:
    async with jobs.testing() as t:
        await Export.enqueue({"format": "csv", "filter": {"year": 2027, "open": True}})
        t.assert_enqueued(Export, args=[{"filter": {"year": 2027}}])
        t.refute_enqueued(Export, args=[{"filter": {"year": 2026}}])
        t.refute_enqueued(Export, args=[{"sheet": 1}])


async def test_a_failed_assertion_tells_what_there_was() -> None:
    async with jobs.testing() as t:
        assert refusal(t.assert_enqueued, welcome) == (
            "Expected a job of welcome, got none.\nNothing was enqueued."
        )
        await welcome.enqueue(1)
        await jobs.enqueue(welcome.new(2, lang="fr"), in_=60)
        await count_down.enqueue(3)
        assert refusal(t.assert_enqueued, welcome, args=[3], in_=60) == (
            "Expected a job of welcome with args=[3], in_=60, got none.\n"
            "Nearest: welcome(2, 'plain', lang='fr') in queue 'mail', due in 60 s\n"
            "  args: expected [3], got [2, 'plain', {'lang': 'fr'}]\n"
            "Enqueued (3):\n"
            "  welcome(1, 'plain') in queue 'mail'\n"
            "  welcome(2, 'plain', lang='fr') in queue 'mail', due in 60 s\n"
            "  count_down(3) in queue 'default'"
        )
        assert refusal(t.refute_enqueued, welcome, args=[1]) == (
            "Expected no job of welcome with args=[1], got 1:\n"
            "  welcome(1, 'plain') in queue 'mail'"
        )


@pytest.mark.parametrize(("count", "said"), [(1, "Expected 1 job of"), (3, "Expected 3 jobs of")])
async def test_a_count_is_exact(count: int, said: str) -> None:
    async with jobs.testing() as t:
        await welcome.enqueue(1)
        await welcome.enqueue(2)
        t.assert_enqueued(welcome, count=2)
        text = refusal(t.assert_enqueued, welcome, count=count)
        assert text.startswith(f"{said} welcome, got 2.\n")


async def test_impossible_expectations_are_refused() -> None:
    async with jobs.testing() as t:
        for wrong, words in (
            ({"count": 0}, "refute_enqueued"),
            ({"args": 7}, "give a list, or a dict"),
            ({"worker": ran}, "is no worker"),
        ):
            with pytest.raises(ConfigError, match=words):
                t.assert_enqueued(**wrong)


async def test_a_job_of_another_program_is_compared_by_its_list() -> None:
    async with jobs.testing() as t:
        await jobs.enqueue(Job("Ruby::Worker", [1, {"a": 2}], queue="ruby"))
        t.assert_enqueued("Ruby::Worker", args=[1, {}], queue="ruby")
        assert "not declared here" in refusal(t.assert_enqueued, "Ruby::Worker", args={"a": 1})


# -- drain


async def test_drain_runs_until_the_queues_are_empty() -> None:
    async with jobs.testing() as t:
        await count_down.enqueue(3)
        await welcome.enqueue(1, lang="fr")
        assert await t.drain() == Drained(done=5)
        assert sorted(map(str, ran)) == ["(1, 'plain', 'fr')", "0", "1", "2", "3"]
        assert len(t.enqueued) == 5  # what jobs have enqueued, too
        assert (t.queued, await t.drain()) == ([], Drained())


async def test_drain_waits_for_threads_and_for_real_time() -> None:
    async with jobs.testing() as t:
        for n in range(8):
            await in_thread.enqueue(n)
        await slow.enqueue(0.02)
        assert await t.drain() == Drained(done=9)
        assert len(ran) == 9


async def test_failures_go_where_they_would_go() -> None:
    async with jobs.testing() as t:
        await fail.enqueue(1)
        assert await t.drain() == Drained(failed=1, retried=1)
        [job] = t.retries
        assert job.payload["error_message"] == "no 1"
        assert job.at_s is not None
        assert job.at_s > t.now.timestamp()
        assert await t.drain() == Drained()
        assert await t.drain(with_scheduled=True) == Drained(failed=2, retried=1, dead=1)
        assert (ran, t.retries) == ([1, 1, 1], [])
        assert t.dead[0].payload["retry_count"] == 2


async def test_a_drain_can_raise_what_the_job_raised() -> None:
    async with jobs.testing() as t:
        await fail.enqueue(1)
        await fail.enqueue(2)
        with pytest.raises(ValueError, match="no 1") as info:
            await t.drain(raise_errors=True)
        assert any(entry.name == "fail" for entry in info.traceback)
        assert ran == [1, 2]


async def test_signals_are_counted() -> None:
    async with jobs.testing() as t:
        await signal.enqueue("snooze")
        await signal.enqueue("enough")
        assert await t.drain() == Drained(snoozed=1, aborted=1)
        assert [job.args for job in t.scheduled] == [["snooze"]]


async def test_a_limit_leaves_the_rest() -> None:
    async with jobs.testing() as t:
        await count_down.enqueue(5)
        assert await t.drain(limit=2) == Drained(done=2)
        assert (ran, len(t.queued)) == ([5, 4], 1)
        assert await t.drain() == Drained(done=4)


async def test_what_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiqpy.testing._sandbox.tester._MAX_JOBS", 50)
    async with jobs.testing() as t:
        await count_down.enqueue(100)
        with pytest.raises(RuntimeError, match="does a job enqueue itself"):
            await t.drain()
        assert len(ran) == 50


async def test_a_drain_that_takes_too_long_names_the_job() -> None:
    async with jobs.testing() as t:
        await slow.enqueue(3600.0)
        with pytest.raises(TimeoutError, match=r"these jobs still run: slow\(3600.0\)"):
            await t.drain(timeout=0.05)
    assert ran == []  # and the end of the test does not wait for it either


async def test_a_thread_that_hangs_does_not_hold_the_end_up() -> None:
    gate = threading.Event()

    @worker
    def stuck() -> None:
        gate.wait(20)

    class Threads(App):
        workers = [stuck]

    app = Threads()
    try:
        async with app.testing() as t:
            await app.enqueue(stuck.new())
            with pytest.raises(TimeoutError, match=r"stuck\(\)"):
                await t.drain(timeout=0.05)
        assert not gate.is_set()
    finally:
        gate.set()


async def test_queues_that_share_a_limit_are_drained() -> None:
    ordered: list[str] = []

    @worker
    async def note(queue: str) -> None:
        ordered.append(queue)

    class Grouped(App):
        queues = [QueueGroup(["critical", "low", "tenant-*"], concurrency=1)]
        workers = [note]

    async with Grouped().testing() as t:
        for queue in ("low", "critical", "low", "critical"):
            await note.using(queue=queue).enqueue(queue)
        assert await t.drain(limit=1) == Drained(done=1)
        assert await t.drain() == Drained(done=3)
        assert ordered == ["critical", "critical", "low", "low"]
        await note.using(queue="tenant-7").enqueue("7")
        assert await t.drain() == Drained(done=1)


async def test_a_quiet_app_runs_nothing() -> None:
    async with jobs.testing() as t:
        await jobs.quiet()
        await welcome.enqueue(1)
        assert (await t.drain(), len(t.queued)) == (Drained(), 1)


async def test_a_paused_queue_is_left_alone() -> None:
    async with jobs.testing() as t:
        await jobs.store.census.pause("mail")
        await welcome.enqueue(1)
        await count_down.enqueue(0)
        assert await t.drain() == Drained(done=1)
        await jobs.store.census.resume("mail")
        assert await t.drain() == Drained(done=1)


async def test_middleware_is_real() -> None:
    @worker
    async def plain() -> None: ...

    seen: list[str] = []

    async def pushed(job: Job, call_next: Any) -> Any:
        if job.queue == "nowhere":
            return None
        job.payload["tenant"] = 7
        return await call_next(job)

    async def attempted(job: Job, call_next: Any) -> Any:
        seen.append(job.class_)
        return await call_next(job)

    class Layered(App):
        workers = [plain]
        middleware = [attempted]
        client_middleware = [pushed]

    async with Layered().testing() as t:
        await plain.enqueue()
        await plain.using(queue="nowhere").enqueue()
        t.assert_enqueued(plain, tenant=7, count=1)
        await t.drain()
    assert seen == ["plain"]


async def test_duplicates_of_unique_jobs_are_not_enqueued() -> None:
    @worker(unique_for=3600)
    async def once(n: int) -> None: ...

    class Unique(App):
        workers = [once]

    app = Unique()
    async with app.testing() as t:
        first = await once.enqueue(1)
        assert await once.enqueue(1) == Receipt(first.jid, "duplicate")
        app.enqueue_nowait(once.new(1))
        app.enqueue_nowait(once.new(2))
        await app.flush()
        assert [job.args for job in t.enqueued] == [[1], [2]]
        await t.drain()
        assert (await once.enqueue(1)).state == "queued"


async def test_reporters_and_events_are_real() -> None:
    heard: list[str] = []

    def hear(event: Any) -> None:
        heard.append(event.name)

    jobs.attach("job.*", hear)
    try:
        async with jobs.testing() as t:
            await welcome.enqueue(1)
            await t.drain()
    finally:
        jobs.detach(hear)
    assert heard[-3:] == ["job.started", "job.success", "job.stopped"]


# -- time


async def test_time_passes_when_it_is_told_to() -> None:
    async with jobs.testing(now=start) as t:
        assert t.now == start
        receipt = await jobs.enqueue(welcome.new(1), in_=60)
        await jobs.enqueue(welcome.new(2), at=t.now + timedelta(hours=1))
        assert receipt.state == "scheduled"
        assert [job.at_s for job in t.scheduled] == [
            start.timestamp() + 60,
            start.timestamp() + 3600,
        ]
        await t.tick(59.9)
        assert (await t.drain(), t.queued) == (Drained(), [])
        await t.tick(0.1)
        assert (len(t.queued), ran) == (1, [])
        assert await t.drain() == Drained(done=1)
        await t.tick(timedelta(hours=1))
        assert await t.drain() == Drained(done=1)
        assert t.now == start + timedelta(hours=1, minutes=1)


@pytest.mark.parametrize("step", [0.1, 1 / 3, 59.999999, 12345.678])
async def test_what_is_due_at_the_tick_is_due(step: float) -> None:
    async with jobs.testing() as t:
        await t.tick(step)
        for _ in range(20):
            await jobs.enqueue(welcome.new(1), in_=step)
            await t.tick(step)
            assert (await t.drain()).done == 1


async def test_the_lease_outlives_any_tick() -> None:
    async with jobs.testing() as t:
        await t.tick(timedelta(days=10))
        await welcome.enqueue(1)
        assert (await t.drain()).done == 1


async def test_a_schedule_is_drained_in_its_own_time() -> None:
    async with jobs.testing(now=start) as t:
        await jobs.enqueue(welcome.new(1), in_=timedelta(days=2))
        await jobs.enqueue(welcome.new(2), in_=5)
        assert await t.drain(with_scheduled=True) == Drained(done=2)
        assert [args[0] for args in ran] == [2, 1]
        assert t.now >= start + timedelta(days=2)


async def test_periodic_jobs_come_by_virtual_time() -> None:
    @worker
    async def report() -> None: ...

    class Clockwork(App):
        workers = [report]
        periodics = [("0 12 * * *", report), ("30 * * * *", report, {"name": "half"})]

    async with Clockwork().testing(now=start) as t:
        await t.tick(59)
        t.refute_enqueued(report)
        await t.tick(1)
        t.assert_enqueued(report, count=1)
        assert await t.drain() == Drained(done=1)
        await t.tick(timedelta(hours=3))
        t.assert_enqueued(report, count=4)
        assert await t.drain() == Drained(done=3)


async def test_a_day_of_periodic_jobs_takes_a_moment() -> None:
    @worker
    async def report() -> None: ...

    class Clockwork(App):
        workers = [report]
        periodics = [("*/5 * * * *", report)]

    took_s: list[float] = []
    for _ in range(3):
        async with Clockwork().testing(now=start) as t:
            began = time.perf_counter()
            await t.tick(timedelta(days=1))
            took_s.append(time.perf_counter() - began)
            assert len(t.queued) == 288
    assert min(took_s) < 2  # about 0.2 s here


async def test_a_timeout_comes_in_virtual_time() -> None:
    @worker(timeout=30)
    async def hang() -> None:
        await asyncio.Event().wait()

    class Short(App):
        workers = [hang]

    app = Short()
    async with app.testing() as t:
        await hang.enqueue()
        draining = asyncio.create_task(t.drain())
        await t.tick(31)
        assert await draining == Drained(failed=1, retried=1)
        assert t.retries[0].payload["error_class"] == "TimeoutError"


# -- an app under test


async def test_each_time_is_a_new_world() -> None:
    for n in (1, 2):
        async with jobs.testing() as t:
            assert (t.enqueued, t.queued, t.dead) == ([], [], [])
            await welcome.enqueue(n)
            await jobs.enqueue(welcome.new(n), in_=60)
    assert recorder_of(jobs).jobs() != []  # what was enqueued can be asked for afterwards


async def test_needs_no_address_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", "")

    @worker
    async def mine(n: int) -> None: ...

    class Production(App):
        redis_url = env("A_URL_THAT_NO_TEST_HAS")
        embedded = False
        server = False
        schedulers = []
        workers = [mine]

    app = Production()
    async with app.testing() as t:
        await mine.using(in_=1).enqueue(1)
        assert (await t.drain(with_scheduled=True)).done == 1


async def test_a_started_app_is_not_disturbed() -> None:
    async with jobs.testing() as t:
        with pytest.raises(LifecycleError, match="started already"):
            async with jobs.testing():
                pass
        await welcome.enqueue(1)
        assert (await t.drain()).done == 1
    assert isinstance(t, AppTester)


async def test_the_test_s_own_error_comes_out() -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012
        async with jobs.testing():
            await welcome.enqueue(1)
            raise KeyError("mine")
    async with jobs.testing():
        pass


async def test_beginning_and_end_take_milliseconds() -> None:
    took: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        async with jobs.testing():
            pass
        took.append(time.perf_counter() - began)
    assert min(took) < 0.015  # about 3 ms here


def test_another_event_loop_will_do() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> Drained:
        async with jobs.testing() as t:
            await count_down.enqueue(3)
            await in_thread.enqueue(1)
            await jobs.enqueue(welcome.new(1), in_=60)
            await t.tick(60)
            return await t.drain()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == Drained(done=6)

"""All ways to enqueue a job."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiqpy import App, ArgumentError, ConfigError, Job, LifecycleError, worker
from kiqpy.receipt import Receipt
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@worker(queue="mail")
async def send(n: int, *, loud: bool = False) -> None: ...


@worker
async def plain(n: int) -> None: ...


def client(redis_url: str, **changes: Any) -> App:
    return App(redis_url=redis_url, queues={"default": 5}, **changes)


async def sizes(app: App) -> dict[str, int]:
    return await app.store.census.sizes(["default", "mail"])


async def test_now_later_and_at_an_instant(redis_url: str) -> None:
    async with client(redis_url).client_only() as jobs:
        soon = datetime.now(UTC) + timedelta(hours=1)
        for job, when, state in (
            (send.new(1), {}, "queued"),
            (send.new(2, loud=True), {"in_": 60}, "scheduled"),
            (send.new(3), {"in_": timedelta(minutes=1)}, "scheduled"),
            (send.new(4), {"at": soon}, "scheduled"),
            (send.new(5), {"at": soon.timestamp()}, "scheduled"),
            (send.new(6), {"at": datetime(2020, 1, 1, tzinfo=UTC)}, "queued"),
            (send.using(in_=60).new(7), {}, "scheduled"),
        ):
            receipt = await jobs.enqueue(job, **when)
            assert receipt.state == state, job.args
            assert len(receipt.jid) == 24
        assert await sizes(jobs) == {
            "default": 0, "mail": 2, "schedule": 5, "retry": 0, "dead": 0,
        }  # fmt: skip
        entries = await jobs.store.census.page("schedule", 0, 9)
        delays = sorted(round((entry.score or 0) - soon.timestamp() + 3600) for entry in entries)
        assert delays[:3] == [60, 60, 60]
        assert delays[3:] == [3600, 3600]


async def test_a_job_needs_no_worker_here(redis_url: str) -> None:
    async with client(redis_url).client_only() as jobs:
        await jobs.enqueue(Job("Ruby::Worker", [1], queue="mail", retry=3, custom={"a": 1}))
        [entry] = await jobs.store.census.queue_page("mail", 0, 9)
        assert entry.job is not None
        assert entry.job.payload["custom"] == {"a": 1}


async def test_many_are_all_or_none_and_keep_their_order(redis_url: str) -> None:
    async with client(redis_url).client_only() as jobs:
        receipts = await jobs.enqueue_many([plain.new(n) for n in range(1000)])
        assert [receipt.state for receipt in receipts] == ["queued"] * 1000
        entries = await jobs.store.census.queue_page("default", 0, 1000)
        assert [entry.job.args[0] for entry in entries if entry.job] == list(range(1000))
        with pytest.raises(ArgumentError, match=r"1,001 jobs .* use atomic=False"):
            await jobs.enqueue_many(plain.new(n) for n in range(1001))
        with pytest.raises(ArgumentError):
            await jobs.enqueue_many([plain.new(1), "no job"])  # type: ignore[list-item]
        assert (await sizes(jobs))["default"] == 1000
        assert await jobs.enqueue_many([]) == []


async def test_any_number_in_slices_with_progress(redis_url: str) -> None:
    progress: list[int] = []
    async with client(redis_url).client_only() as jobs:
        receipts = await jobs.enqueue_many(
            (plain.new(n) for n in range(2500)), atomic=False, progress=progress.append
        )
        assert len(receipts) == 2500
        assert progress == [1000, 2000, 2500]
        assert (await sizes(jobs))["default"] == 2500


async def test_nowait_is_durable_after_a_flush_from_any_thread(redis_url: str) -> None:
    async with client(redis_url, flush_interval=5).client_only() as jobs:
        assert jobs.enqueue_nowait(plain.new(1)).state == "buffered"
        receipt = await asyncio.to_thread(jobs.enqueue_nowait, plain.new(2))
        assert receipt.state == "buffered"
        assert jobs.client.snapshot().buffered == 2
        await jobs.flush()
        assert jobs.client.snapshot().buffered == 0
        assert (await sizes(jobs))["default"] == 2


async def test_sync_from_a_thread_of_the_apps_own_process(redis_url: str) -> None:
    async with client(redis_url).client_only() as jobs:
        receipt = await asyncio.to_thread(jobs.enqueue_sync, plain.new(1))
        assert receipt.state == "queued"
        with pytest.raises(LifecycleError, match="await enqueue"):
            jobs.enqueue_sync(plain.new(2))
        jobs.close_sync()  # it has started nothing
        assert (await jobs.enqueue(plain.new(3))).state == "queued"


SCRIPT = textwrap.dedent("""
    import sys
    from kiqpy import App, worker

    @worker
    async def plain(n): ...

    jobs = App(redis_url=sys.argv[1], workers=[plain])
    print(jobs.enqueue_sync(plain.new(1)).state)
    print(jobs.enqueue_sync(plain.new(2), in_=60).state)
    print(jobs.enqueue_nowait(plain.new(3)).state)
    jobs.close_sync()
    jobs.close_sync()
    print(jobs.enqueue_sync(plain.new(4)).state)
    if sys.argv[2] == "close":
        jobs.close_sync()
""")


@pytest.mark.parametrize("ending", ["close", "forget"])
async def test_sync_from_a_script(redis_url: str, ending: str) -> None:
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", SCRIPT, redis_url, ending],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.split() == ["queued", "scheduled", "buffered", "queued"]
    assert ran.returncode == 0
    async with client(redis_url).client_only() as jobs:
        found = await sizes(jobs)
    assert (found["default"], found["schedule"]) == (3, 1)


THREADS = """
import sys, threading
from kiqpy import App, worker

@worker
async def plain(n): ...

jobs = App(redis_url=sys.argv[1], workers=[plain])
ready = threading.Barrier(8)

def enqueue(n):
    ready.wait()
    jobs.enqueue_sync(plain.new(n))

threads = [threading.Thread(target=enqueue, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_scripts_threads_may_be_the_first_all_at_once(clean: TestServer) -> None:
    """Each started the app for itself: all but one raised, and the script never ended."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", THREADS, clean.url],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert clean.cli("LLEN", "queue:default") == 8


async def test_a_worker_of_one_app_enqueues_by_itself(redis_url: str) -> None:
    @worker
    async def owned(n: int) -> None: ...

    with pytest.raises(ConfigError, match=r"owned\.enqueue\(\): no app declares it; use app\."):
        await owned.enqueue(1)
    jobs = client(redis_url, workers=[owned])
    with pytest.raises(LifecycleError, match="is not started: use `async with app:`"):
        await owned.enqueue(1)
    async with jobs.client_only():
        assert (await owned.enqueue(1)).state == "queued"
        assert (await owned.using(in_=9).enqueue(1)).state == "scheduled"
    other = client(redis_url, workers=[owned])
    with pytest.raises(ConfigError, match="2 apps declare it; use app"):
        await owned.enqueue(1)
    del other
    gc.collect()
    async with jobs.client_only():
        assert (await owned.enqueue(1)).state == "queued"


async def test_a_job_enqueued_from_a_job_runs_too(redis_url: str) -> None:
    ran: list[int] = []

    @worker
    async def again(n: int) -> None:
        ran.append(n)
        if n:
            await again.enqueue(n - 1)

    async with client(redis_url, workers=[again]) as jobs:
        receipt: Receipt = await jobs.enqueue(again.new(3))
        assert receipt.state == "queued"
        await eventually(lambda: ran == [3, 2, 1, 0], "four runs")


async def test_of_two_apps_that_declare_a_worker_the_started_one_takes_its_jobs(
    redis_url: str,
) -> None:
    """An app of a test before, not yet collected, made `worker.enqueue` ambiguous."""

    @worker
    async def shared() -> None: ...

    apps = [App(redis_url=redis_url, workers=[shared]) for _ in range(2)]
    with pytest.raises(ConfigError, match="2 apps declare it"):
        await shared.enqueue()
    async with apps[1].client_only():
        assert (await shared.enqueue()).state == "queued"


# -- a job made by hand, of a worker of this app


@worker(
    queue="mail",
    retry=0,
    retry_queue="slow",
    expires_in=60,
    dead=False,
    tags=["t"],
    unique_for=600,
    unique_until="start",
)
async def careful(n: int, loud: bool = False) -> None: ...


async def kept_by(app: App, queue: str) -> dict[str, Any]:
    (entry,) = await app.store.census.queue_page(queue, 0, 9)
    assert entry.job is not None
    return entry.job.payload


@pytest.mark.parametrize("around", [False, True], ids=["plain", "middleware"])
async def test_what_a_job_by_hand_does_not_say_its_worker_says(
    redis_url: str, clean: TestServer, around: bool
) -> None:
    """The call counts more than the worker, the worker more than the app."""

    async def on(job: Job, call_next: Any) -> None:
        await call_next(job)

    chain = [on] if around else []
    app = client(redis_url, workers=[careful, plain], retry=3, client_middleware=chain)
    async with app.client_only() as jobs:
        await jobs.enqueue(careful.new(1))
        expected = await kept_by(jobs, "mail")
        clean.cli("FLUSHALL")
        await jobs.enqueue(Job("careful", [1]))
        found = await kept_by(jobs, "mail")
        own = {"jid", "created_at", "enqueued_at", "expires_at", "unlocks_at"}
        assert found.keys() == expected.keys()
        assert {k: found[k] for k in found.keys() - own} == {
            k: expected[k] for k in expected.keys() - own
        } | {"args": [1]}

        clean.cli("FLUSHALL")
        said: dict[str, Any] = {"retry": 7, "tags": ["u"], "expires_in": 5, "unique_for": False}
        await jobs.enqueue(Job("careful", [1], queue="default", **said))
        found = await kept_by(jobs, "default")
        assert {k: found[k] for k in said} == said
        assert (found["retry_queue"], found.get("unique_token")) == ("slow", None)

        clean.cli("FLUSHALL")
        await jobs.enqueue_many([Job("plain", [1])])
        assert (await kept_by(jobs, "default"))["retry"] == 3
        await jobs.enqueue(Job("Ruby::Worker", [1], queue="ruby"))
        assert (await kept_by(jobs, "ruby"))["retry"] == 3


async def test_a_job_by_hand_is_a_duplicate_of_its_workers(redis_url: str) -> None:
    async with client(redis_url, workers=[careful]).client_only() as jobs:
        first = await jobs.enqueue(careful.new(1, loud=False))
        again = await jobs.enqueue(Job("careful", [1]))
        assert (again.state, again.jid) == ("duplicate", first.jid)
        with pytest.raises(ArgumentError, match=r"careful\(n: .*missing a required argument"):
            await jobs.enqueue(Job("careful", []))


async def test_one_job_enqueued_twice_makes_two_with_a_jid_each(redis_url: str) -> None:
    async with client(redis_url, workers=[plain]).client_only() as jobs:
        job = plain.new(1)
        receipts = [await jobs.enqueue(job) for _ in range(2)]
        assert len({receipt.jid for receipt in receipts}) == 2


@pytest.mark.parametrize("endless", [float("inf"), 1e300, timedelta(days=365 * 200)])
async def test_no_job_waits_for_ever(redis_url: str, endless: Any) -> None:
    async with client(redis_url).client_only() as jobs:
        with pytest.raises(ConfigError, match="at most 100 years"):
            await jobs.enqueue(plain.new(1), in_=endless)
        with pytest.raises(ConfigError, match="at most 100 years"):
            plain.using(in_=endless)
        with pytest.raises(ConfigError, match="at most 100 years"):
            worker(expires_in=endless)(print)

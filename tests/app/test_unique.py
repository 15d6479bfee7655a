"""Unique jobs in a running app: taking, keeping and freeing a lock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiqpy import App, Discard, Job, Kill, Receipt, Snooze, Worker, current_job, worker
from kiqpy.job import decode
from tests.eventually import eventually
from tests.server import UTF8, TestServer

pytestmark = pytest.mark.anyio
KIQS = "0123456789abcdef0123456789abcdef01234567"
EXQS = "c2hhMjU2IG9mIGEgam9iIGFuZCBpdHMgYXJndW1lbnRzIQ=="
gates: list[asyncio.Event] = []  # of the test that runs, for events belong to a loop
ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    gates[:] = [asyncio.Event()]
    ran.clear()


async def _body(what: str) -> Any:
    ran.append(current_job().jid)
    if what == "wait":
        await gates[-1].wait()
    elif what == "raise":
        raise ValueError("no")
    elif what == "once" and current_job().retry_count < 0:
        raise ValueError("the first time")
    elif what == "snooze":
        return Snooze(1000)
    return {"discard": Discard("enough"), "kill": Kill("bad")}.get(what)


@worker(unique_for=60)
async def success(what: str = "") -> Any:
    return await _body(what)


@worker(unique_for=60, unique_until="start")
async def start(what: str = "") -> Any:
    return await _body(what)


@worker(unique_for=60, unique_until="expiry")
async def expiry(what: str = "") -> Any:
    return await _body(what)


@worker(unique_for=60, unique_until="start", unique_by=lambda _what: "one", backoff="immediate")
async def once(what: str = "") -> Any:
    return await _body(what)


class Report(Worker, unique_for=timedelta(minutes=1), unique_by=lambda user, _text: user):
    async def perform(self, user: int, text: str) -> None: ...


class Jobs(App):
    workers = [success, start, expiry, once, Report]
    poll_interval = 0.05


@pytest.fixture
async def shop(clean: TestServer, anyio_backend: object) -> AsyncIterator[App]:
    """It enqueues and runs nothing."""
    async with Jobs(redis_url=clean.url).client_only() as app:
        yield app


@pytest.fixture
async def works(clean: TestServer, anyio_backend: object) -> AsyncIterator[App]:
    async with Jobs(redis_url=clean.url, shutdown_timeout=0.1) as app:
        yield app
        gates[-1].set()


def locks(server: TestServer) -> dict[str, tuple[str, float]]:
    """Each lock's holder and seconds left, under its token."""
    found: dict[str, tuple[str, float]] = {}
    keys = server.cli("KEYS", "unique:*")
    assert isinstance(keys, list)
    for key in map(str, keys):
        left = server.cli("PTTL", key)
        assert isinstance(left, int)
        assert left != -1, "a lock that never runs out"
        found[key.removeprefix("unique:")] = (str(server.cli("GET", key)), left / 1000)
    return found


def the_lock(server: TestServer) -> tuple[str, float]:
    (found,) = locks(server).values()
    return found


def raws(server: TestServer, place: str) -> list[bytes]:
    words = ("LRANGE", place) if place.startswith("queue:") else ("ZRANGE", place)
    found = server.cli(*words, 0, -1)
    assert isinstance(found, list)
    return [str(text).encode(*UTF8) for text in found]


async def settled(server: TestServer) -> None:
    """Nothing is queued and nothing runs."""

    def empty() -> bool:
        """Looked at in the order in which a job comes through, so that none is overlooked."""
        keys = ("queue:default", "kiq:inbox|*", "kiq:private|*")
        return not any(server.cli("KEYS", key) for key in keys)

    await eventually(empty, "all jobs to be settled")


# ---- at the door


async def test_a_duplicate_is_a_result_that_names_the_holder(shop: App) -> None:
    first = await shop.enqueue(success.new())
    second = await shop.enqueue(success.new(""))
    assert (first.state, second.state, second.jid) == ("queued", "duplicate", first.jid)
    assert (await shop.enqueue(success.new("other"))).state == "queued"


async def test_a_job_with_a_jid_of_its_own_is_there_once(shop: App, clean: TestServer) -> None:
    job = Job("Ruby::Work", [1], jid="order-7", unique_for=60)
    first, second = await shop.enqueue(job), await shop.enqueue(job)
    assert (first, second) == (Receipt("order-7", "queued"), Receipt("order-7", "duplicate"))
    assert clean.cli("LLEN", "queue:default") == 1


async def test_others_go_on_beside_a_duplicate(shop: App, clean: TestServer) -> None:
    plain = Job("Ruby::Work", [1])
    receipts = await shop.enqueue_many([plain, success.new(), success.new(), plain])
    assert [receipt.state for receipt in receipts] == ["queued", "queued", "duplicate", "queued"]
    assert receipts[2].jid == receipts[1].jid
    assert clean.cli("LLEN", "queue:default") == 3
    loose = await shop.enqueue_many((success.new(str(n % 5)) for n in range(20)), atomic=False)
    assert [receipt.state for receipt in loose].count("queued") == 5


async def test_a_lock_lasts_until_the_job_is_due_and_longer(shop: App, clean: TestServer) -> None:
    soon, later = success.new("in"), success.new("at")
    at = datetime.now(UTC) + timedelta(seconds=1000)
    receipts = [await shop.enqueue(soon, in_=500), await shop.enqueue(later, at=at)]
    receipts.append(await shop.enqueue(success.using(unique_for=30).new("now")))
    left = dict(locks(clean).values())
    expected = (560.0, 1060.0, 30.0)
    assert [left[receipt.jid] for receipt in receipts] == pytest.approx(expected, abs=10)
    assert (await shop.enqueue(success.new("at"))).jid == receipts[1].jid
    assert (await shop.enqueue(success.new("at"), in_=5)).state == "duplicate"


async def test_unique_by(shop: App) -> None:
    first = await shop.enqueue(Report.new(7, "a"))
    assert (await shop.enqueue(Report.new(7, "b"))) == Receipt(first.jid, "duplicate")
    assert (await shop.enqueue(Report.new(8, "a"))).state == "queued"


async def test_what_using_says_counts_more(shop: App) -> None:
    await shop.enqueue(success.new())
    assert (await shop.enqueue(success.using(unique_for=None).new())).state == "queued"
    assert (await shop.enqueue(success.using(queue="other").new())).state == "queued"


# ---- what frees it


@pytest.mark.parametrize("what", ["", "discard", "kill"])
async def test_the_end_frees_it(works: App, clean: TestServer, what: str) -> None:
    await works.enqueue(success.new(what))
    await settled(clean)
    assert locks(clean) == {}
    assert (await works.enqueue(success.new(what))).state == "queued"


@pytest.mark.parametrize("retry", [0, False])
async def test_the_last_failure_frees_it(works: App, clean: TestServer, retry: Any) -> None:
    await works.enqueue(success.using(retry=retry).new("raise"))
    await settled(clean)
    assert locks(clean) == {}
    assert clean.cli("ZCARD", "dead") == (0 if retry is False else 1)


@pytest.mark.parametrize(("what", "delay"), [("raise", 15), ("snooze", 1000)])
async def test_what_is_put_off_holds_it_until_then_and_longer(
    works: App, clean: TestServer, what: str, delay: int
) -> None:
    first = await works.enqueue(success.using(unique_for=2, backoff="constant").new(what))
    await settled(clean)
    assert the_lock(clean) == (first.jid, pytest.approx(delay + 2, abs=3))
    assert (await works.enqueue(success.new(what))) == Receipt(first.jid, "duplicate")


@pytest.mark.parametrize("what", ["", "raise", "kill"])
async def test_only_time_frees_one_until_expiry(works: App, clean: TestServer, what: str) -> None:
    first = await works.enqueue(expiry.using(retry=0).new(what))
    await settled(clean)
    assert the_lock(clean) == (first.jid, pytest.approx(60, abs=15))
    assert (await works.enqueue(expiry.new(what))).state == "duplicate"


async def test_one_until_expiry_runs_out(works: App, clean: TestServer) -> None:
    await works.enqueue(expiry.using(unique_for=0.05).new())
    await eventually(lambda: not locks(clean), "the lock to run out")
    assert (await works.enqueue(expiry.new())).state == "queued"


async def test_a_start_frees_it_while_the_job_runs(works: App, clean: TestServer) -> None:
    first = await works.enqueue(start.new("wait"))
    await eventually(lambda: ran == [first.jid], "the first to run")
    assert locks(clean) == {}
    second = await works.enqueue(start.new("wait"))
    assert second.state == "queued"
    await eventually(lambda: len(ran) == 2, "both to run")
    gates[-1].set()
    await settled(clean)
    assert locks(clean) == {}


async def test_a_retry_does_not_free_the_next_jobs_lock(works: App, clean: TestServer) -> None:
    """The first fails and is tried again while the second waits: the lock is the second's."""
    first = await works.enqueue(once.new("once"))
    await eventually(lambda: ran == [first.jid], "the first to run and to fail")
    second = await works.enqueue(once.new("later"), in_=1000)
    assert second.state == "scheduled"
    await eventually(lambda: ran == [first.jid] * 2, "the retry")
    await settled(clean)
    assert the_lock(clean)[0] == second.jid
    assert (await works.enqueue(once.new())) == Receipt(second.jid, "duplicate")


async def test_a_job_that_outlived_its_lock_frees_nobodys(works: App, clean: TestServer) -> None:
    slow = success.using(unique_for=0.05)
    first = await works.enqueue(slow.new("wait"))
    await eventually(lambda: ran == [first.jid], "the first to run")
    await eventually(lambda: not locks(clean), "its lock to run out")
    second = await works.enqueue(success.new("wait"), in_=1000)
    assert second.state == "scheduled"
    gates[-1].set()
    await settled(clean)
    assert the_lock(clean)[0] == second.jid


async def test_an_expired_job_frees_it(works: App, clean: TestServer) -> None:
    late = json.dumps(
        {"class": "success", "args": [""], "jid": "late", "queue": "default", "retry": True,
         "unique_token": "T", "unique_for": 60, "expires_at": time.time() - 5}
    )  # fmt: skip
    clean.cli("SET", "unique:T", "late", "EX", 1000)
    clean.cli("LPUSH", "queue:default", late)
    await settled(clean)
    assert (ran, locks(clean)) == ([], {})


@pytest.mark.parametrize("keep", [True, False])
async def test_a_cancelled_job_frees_it(works: App, clean: TestServer, keep: bool) -> None:
    first = await works.enqueue(success.new("wait"))
    await eventually(lambda: ran == [first.jid], "the job to run")
    await works.cancel(first.jid, keep=keep)
    await settled(clean)
    assert locks(clean) == {}
    assert clean.cli("ZCARD", "dead") == int(keep)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_cancel_leaves_one_until_expiry_to_time(
    works: App, clean: TestServer, keep: bool
) -> None:
    first = await works.enqueue(expiry.new("wait"))
    await eventually(lambda: ran == [first.jid], "the job to run")
    await works.cancel(first.jid, keep=keep)
    await settled(clean)
    assert the_lock(clean)[0] == first.jid


async def test_one_that_is_put_back_at_a_stop_keeps_it(clean: TestServer) -> None:
    async with Jobs(redis_url=clean.url, shutdown_timeout=0) as app:
        first = await app.enqueue(success.new("wait"))
        await eventually(lambda: ran == [first.jid], "the job to run")
    assert [decode(raw).jid for raw in raws(clean, "queue:default")] == [first.jid]
    assert the_lock(clean)[0] == first.jid


# ---- an operator


@pytest.mark.parametrize("unlock", [True, False])
async def test_who_deletes_says_what_becomes_of_it(
    shop: App, clean: TestServer, unlock: bool
) -> None:
    first = await shop.enqueue(success.new(), in_=1000)
    other = await shop.enqueue(expiry.new())
    assert (await shop.admin.delete([first.jid, other.jid], unlock=unlock)).done == 2
    assert len(locks(clean)) == (0 if unlock else 2)
    again = await shop.enqueue(success.new())
    assert again.state == ("queued" if unlock else "duplicate")


MOVED = ["retry", "requeue"]


async def killed(shop: App, job: Job) -> str:
    """The jid of a job that is dead and has lost its lock, but for one until expiry."""
    first = await shop.enqueue(job, in_=1000)
    await shop.admin.kill_all("scheduled")
    return first.jid


@pytest.mark.parametrize("act", MOVED)
@pytest.mark.parametrize("kind", [success, start, expiry])
async def test_who_moves_a_dead_job_to_its_queue_gives_it_its_lock_again(
    shop: App, clean: TestServer, act: str, kind: Any
) -> None:
    jid = await killed(shop, kind.new())
    if locks(clean):  # until expiry: only time frees it
        clean.cli("DEL", *(f"unique:{token}" for token in locks(clean)))
    assert (await getattr(shop.admin, act)(jid)).done == 1
    assert the_lock(clean) == (jid, pytest.approx(60, abs=15))
    assert (await shop.enqueue(kind.new())) == Receipt(jid, "duplicate")


@pytest.mark.parametrize("act", MOVED)
async def test_where_another_job_has_taken_it_both_run(
    works: App, clean: TestServer, act: str
) -> None:
    jid = await killed(works, success.new())
    other = await works.enqueue(success.new(), in_=1000)
    assert (await getattr(works.admin, act)(jid)).done == 1
    await settled(clean)
    assert ran == [jid]
    assert the_lock(clean)[0] == other.jid


@pytest.mark.parametrize("act", MOVED)
async def test_who_is_moved_early_holds_its_lock_as_long_as_before(
    shop: App, clean: TestServer, act: str
) -> None:
    first = await shop.enqueue(success.new("raise"), in_=1000)
    place = "scheduled" if act == "requeue" else "retry"
    if place == "retry":
        [raw] = raws(clean, "schedule")
        clean.cli("RENAME", "schedule", "retry")
        assert decode(raw).jid == first.jid
    await getattr(shop.admin, f"{act}_all")(place)
    assert the_lock(clean) == (first.jid, pytest.approx(1060, abs=15))


async def test_an_all_moves_locks_too(shop: App, clean: TestServer) -> None:
    for n in range(3):
        await shop.enqueue(success.new(str(n)), in_=1000)
    await shop.admin.kill_all("scheduled")
    assert locks(clean) == {}
    await shop.admin.retry_all("dead")
    assert len(locks(clean)) == 3


async def test_a_moved_job_without_a_time_takes_no_lock(shop: App, clean: TestServer) -> None:
    """Another program's payload may name a token and no time; Kiq's locks name no owner."""
    for token in ("T", KIQS):
        clean.cli("ZADD", "dead", 1, foreign(unique_token=token, tags=[token]))
    assert (await shop.admin.retry_all("dead")).done == 2
    assert locks(clean) == {}


async def test_who_is_killed_by_hand_frees_it(shop: App, clean: TestServer) -> None:
    await shop.enqueue(success.new(), in_=1000)
    await shop.admin.kill_all("scheduled")
    assert locks(clean) == {}


# ---- other programs' locks


def foreign(**fields: Any) -> str:
    job = {"class": "success", "args": [""], "jid": "theirs", "queue": "default", "retry": True}
    return json.dumps(job | fields)


@pytest.mark.parametrize("until", ["success", "start", "expiry"])
async def test_exqs_lock(works: App, clean: TestServer, until: str) -> None:
    clean.cli("SET", f"unique:{EXQS}", "theirs", "PX", 60_000)
    clean.cli("LPUSH", "queue:default", foreign(unique_token=EXQS, unique_for=60,
              unique_until=until, unlocks_at=time.time() + 60))  # fmt: skip
    await settled(clean)
    assert ran == ["theirs"]
    assert bool(locks(clean)) == (until == "expiry")


@pytest.mark.parametrize("fields", [{}, {"unique_until": "start"}])
async def test_kiqs_lock(works: App, clean: TestServer, fields: dict[str, Any]) -> None:
    """Its value is how long it lasts, in ms."""
    clean.cli("SET", f"unique:{KIQS}", "60000", "PX", 60_000)
    clean.cli("LPUSH", "queue:default", foreign(unique_token=KIQS, unique_for=60_000,
              unlocks_at=time.time() + 60, **fields))  # fmt: skip
    await settled(clean)
    assert ran == ["theirs"]
    assert locks(clean) == {}


async def test_a_retry_of_kiqs_does_not_free_the_next_jobs_lock(
    works: App, clean: TestServer
) -> None:
    """Kiq's own retries do: it frees a lock that nobody is known to own at every start."""
    clean.cli("SET", f"unique:{KIQS}", "60000", "PX", 60_000)  # the next job's
    clean.cli("LPUSH", "queue:default", foreign(unique_token=KIQS, unique_for=60_000,
              unique_until="start", retry_count=1, unlocks_at=time.time() + 60))  # fmt: skip
    await settled(clean)
    assert ran == ["theirs"]
    assert the_lock(clean) == ("60000", pytest.approx(60, abs=15))

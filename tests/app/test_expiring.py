"""An expired job does not run, is reported, and frees its lock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kiqpy import App, Job, Receipt, worker
from kiqpy.event import Event
from kiqpy.job import decode
from tests.eventually import eventually
from tests.server import UTF8, TestServer

pytestmark = pytest.mark.anyio
ran: list[Any] = []
told: list[Event] = []
gates: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    told.clear()
    gates[:] = [asyncio.Event()]


@worker(expires_in=timedelta(minutes=1))
async def short(n: int = 0) -> None:
    ran.append(n)


@worker(expires_in=0.05, unique_for=1000, max_concurrency=1)
async def single(n: int = 0) -> None:
    ran.append(n)
    await gates[-1].wait()


@worker(expires_in=60, backoff="immediate", retry=5)
async def fails(n: int = 0) -> None:
    ran.append(n)
    raise ValueError("no")


class Jobs(App):
    workers = [short, single, fails]
    poll_interval = 0.05
    shutdown_timeout = 0.1


@pytest.fixture
async def shop(clean: TestServer, anyio_backend: object) -> AsyncIterator[App]:
    async with Jobs(redis_url=clean.url).client_only() as app:
        yield app


@pytest.fixture
async def works(clean: TestServer, anyio_backend: object) -> AsyncIterator[App]:
    async with Jobs(redis_url=clean.url) as app:
        app.attach("*", told.append)
        yield app
        gates[-1].set()


def raws(server: TestServer, place: str) -> list[bytes]:
    words = ("LRANGE", place) if place.startswith("queue:") else ("ZRANGE", place)
    found = server.cli(*words, 0, -1)
    assert isinstance(found, list)
    return [str(text).encode(*UTF8) for text in found]


def payload(server: TestServer, place: str = "queue:default") -> dict[str, Any]:
    (raw,) = raws(server, place)
    return decode(raw).payload


def aborted() -> list[tuple[str, str]]:
    return [(e.job.jid, e.reason) for e in told if e.name == "job.aborted"]  # type: ignore[attr-defined]


async def settled(server: TestServer) -> None:
    def empty() -> bool:
        """Looked at in the order in which a job comes through, so that none is overlooked."""
        keys = ("queue:default", "kiq:inbox|*", "kiq:private|*")
        return not any(server.cli("KEYS", key) for key in keys)

    await eventually(empty, "all jobs to be settled")


# ---- from when it counts


async def test_from_now(shop: App, clean: TestServer) -> None:
    await shop.enqueue(short.new())
    assert payload(clean)["expires_at"] == pytest.approx(time.time() + 60, abs=5)
    assert payload(clean)["expires_in"] == 60


@pytest.mark.parametrize("kind", ["in_", "at"])
async def test_from_when_it_is_due(shop: App, clean: TestServer, kind: str) -> None:
    due = 1000.0 if kind == "in_" else time.time() + 1000
    await shop.enqueue(short.new(), **{kind: due})
    assert payload(clean, "schedule")["expires_at"] == pytest.approx(time.time() + 1060, abs=5)


async def test_what_using_says_counts_more(shop: App, clean: TestServer) -> None:
    await shop.enqueue(short.using(expires_in=5).new())
    assert payload(clean)["expires_at"] == pytest.approx(time.time() + 5, abs=4)
    clean.cli("DEL", "queue:default")
    await shop.enqueue(short.using(expires_in=None).new())
    assert "expires_at" not in payload(clean)


async def test_of_a_job_without_a_worker(shop: App, clean: TestServer) -> None:
    await shop.enqueue(Job("Ruby::Work", [], expires_in=60))
    assert payload(clean)["expires_at"] == pytest.approx(time.time() + 60, abs=5)


# ---- what comes of it


def raw(jid: str, class_: str = "short", **fields: Any) -> str:
    job = {"class": class_, "args": [1], "jid": jid, "queue": "default", "retry": True}
    return json.dumps(job | fields)


@pytest.mark.parametrize("unit", ["float s", "int ms", "int s"])
async def test_too_late_is_not_run_and_is_told(works: App, clean: TestServer, unit: str) -> None:
    late, early = time.time() - 1, time.time() + 100
    told_in = {"float s": lambda t: t, "int ms": lambda t: int(t * 1000), "int s": int}[unit]
    clean.cli("LPUSH", "queue:default", raw("late", expires_at=told_in(late)))
    clean.cli("LPUSH", "queue:default", raw("early", expires_at=told_in(early)))
    await settled(clean)
    await eventually(lambda: aborted() == [("late", "expired")], "the event")
    assert ran == [1]
    assert [raws(clean, place) for place in ("retry", "dead", "schedule")] == [[], [], []]
    assert (clean.cli("GET", "stat:processed"), clean.cli("GET", "stat:failed")) == ("2", None)
    assert not [event for event in told if event.name == "job.failure"]


async def test_it_may_end_after_its_time(works: App) -> None:
    """It must only have begun."""
    receipt = await works.enqueue(single.using(expires_in=5).new())
    await eventually(lambda: ran == [0], "it to run")
    gates[-1].set()
    await eventually(lambda: any(e.name == "job.success" for e in told), "its success")
    assert (aborted(), receipt.state) == ([], "queued")


async def test_time_goes_on_while_it_waits_for_its_turn(works: App, clean: TestServer) -> None:
    """It was claimed in time; when the one before it has ended it is too late."""
    await works.enqueue(single.using(expires_in=1000).new(1))
    await eventually(lambda: ran == [1], "the first to run")
    second = await works.enqueue(single.new(2))
    await eventually(lambda: time.time() > _expiry(clean, second.jid), "the second's time to pass")
    gates[-1].set()
    await settled(clean)
    await eventually(lambda: aborted() == [(second.jid, "expired")], "the event")
    assert ran == [1]


def _expiry(server: TestServer, jid: str) -> float:
    keys = server.cli("KEYS", "kiq:private|*")
    assert isinstance(keys, list)
    for key in map(str, keys):
        values = server.cli("HVALS", key)
        assert isinstance(values, list)
        for text in values:
            job = decode(str(text).encode(*UTF8))
            if job.jid == jid:
                assert job.expires_at is not None
                return job.expires_at
    return float("inf")


async def test_its_lock_is_free(works: App, clean: TestServer) -> None:
    await works.enqueue(single.using(expires_in=1000).new(1))
    await eventually(lambda: ran == [1], "the first to run")
    second = await works.enqueue(single.new(2))
    await eventually(lambda: time.time() > _expiry(clean, second.jid), "the second's time to pass")
    assert (await works.enqueue(single.new(2))) == Receipt(second.jid, "duplicate")
    gates[-1].set()
    await settled(clean)
    assert clean.cli("KEYS", "unique:*") == []
    assert (await works.enqueue(single.new(2))).state == "queued"


async def test_a_retry_can_be_too_late(works: App, clean: TestServer) -> None:
    late = raw("late", "fails", expires_at=time.time() - 1, retry_count=1, failed_at=time.time())
    clean.cli("ZADD", "retry", time.time() - 1, late)
    await eventually(aborted, "it to be put away")
    await settled(clean)
    assert (ran, aborted()) == ([], [("late", "expired")])
    assert raws(clean, "retry") == raws(clean, "dead") == []


@pytest.mark.parametrize("junk", [None, "soon", True, [], {"a": 1}, 1e308, -(10**30)])
async def test_a_time_that_is_none_stops_nothing(works: App, clean: TestServer, junk: Any) -> None:
    clean.cli("LPUSH", "queue:default", raw("odd", expires_at=junk))
    await eventually(lambda: ran == [1], "it to run")


@pytest.mark.parametrize(("later_s", "runs"), [(3630, True), (3661, False)])
async def test_under_virtual_time(later_s: float, runs: bool) -> None:
    jobs = Jobs()
    async with jobs.testing() as trial:
        jobs.attach("job.aborted", told.append)
        receipt = await jobs.enqueue(short.new(1), in_=3600)
        await trial.tick(later_s)
        await trial.drain()
    assert ran == ([1] if runs else [])
    assert aborted() == ([] if runs else [(receipt.jid, "expired")])

"""What kiqpy writes of a job in each state, byte for byte; kept in `golden/`, one file a state.

Sidekiq, Kiq, Exq and Verk read these bytes, and buttons of web pages find a job by them. If a file
must change: `WRITE_GOLDEN=1 python -m pytest tests/interop/test_golden.py`, look at the difference,
and say in the changelog what other programs will see.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kiqpy import App, Job, Periodic, Snooze, worker
from kiqpy._rules.decide import recover
from kiqpy.job import decode
from kiqpy.testing import AppTester
from tests.interop.page import Browser
from tests.interop.ruby import Ruby
from tests.server import TestServer

pytestmark = pytest.mark.anyio
GOLDEN = Path(__file__).parent / "golden"
NOW = 1795225663.123

# State -> why it is as it is. The test says it when the bytes have changed.
WHY = {
    "queued": "created_at and enqueued_at are float seconds: 6, 7 and 8 read those alike; retry,"
    " queue and jid are always written, or Ruby's poller adds its own",
    "options": "each option stands under Sidekiq's name, so that Ruby heeds it; the rest under kiq",
    "unique": "the lock's name and end travel with the job, whoever runs it",
    "arguments": "UTF-8, no spaces, floats as Ruby writes them: its search and reschedule find it",
    "scheduled": "no `at` and no `enqueued_at`: Ruby's poller would put it back",
    "promoted": "enqueued_at is of now; every other byte is as it was",
    "failed-once": "retry_count 0 and failed_at: the retry page needs both",
    "failed-twice": "retried_at, which the page of a second failure needs; failed_at stays",
    "failed-in-another-queue": "queue becomes retry_queue, as in Sidekiq",
    "retried": "what failed keeps its error while it is queued again",
    "dead": "as the last failure left it",
    "snoozed": "no enqueued_at, and nothing of a failure",
    "cancelled": "an error that says so, for the page of dead jobs shows one",
    "killed": "an error that says so, for the page of dead jobs shows one",
    "retry-by-hand": "retry_count goes back by one, to -1 even, as with Sidekiq's button",
    "requeued": "retry_count stays",
    "recovered": "how often and since when its processes died",
    "poison": "an error that says so, for the page of dead jobs shows one",
    "periodic": "which entry it is of, and the tick's time in whole seconds",
}


@worker(queue="mail")
async def send(to: int, text: str = "") -> None: ...


@worker(queue="mail", retry=3, backoff=lambda _count, _error, _job: 10.0)
async def fails(to: int) -> None:
    raise ValueError("no “route” to <host>")


@worker(queue="mail", retry_queue="slow", retry_for=3600)
async def fails_elsewhere(to: int) -> None:
    raise KeyError(to)


@worker(queue="mail", retry=0)
async def dies(to: int) -> None:
    raise OSError(2, "gone")


@worker(queue="mail")
async def sleepy(to: int) -> Snooze:
    return Snooze(60)


class Shop(App):
    queues = {"default": 5, "mail": 5, "slow": 5}
    workers = [send, fails, fails_elsewhere, dies, sleepy]
    periodics = [Periodic("0 * * * *", send, args=[7], name="hourly")]


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[Shop, AppTester]]:
    app = Shop(identity="here")
    async with app.testing(now=datetime.fromtimestamp(NOW, UTC)) as tester:
        yield app, tester


async def only(app: Shop, place: str) -> bytes:
    page = await app.admin.jobs(place)
    assert len(page.rows) == 1, page.rows
    return page.rows[0].raw


async def enqueued(job: Job, place: str = "queue:mail", **when: float) -> bytes:
    async with shop() as (app, _):
        await app.enqueue(job, **when)
        return await only(app, place)


async def failed(job: Job, times: int, place: str = "retry") -> bytes:
    async with shop() as (app, tester):
        await app.enqueue(job)
        await tester.drain()
        for _ in range(times - 1):
            await app.admin.requeue_all("retry")
            await tester.drain()
        return await only(app, place)


async def by_hand(act: str, place: str, to: str) -> bytes:
    async with shop() as (app, tester):
        await app.enqueue(fails.new(7) if place == "retry" else send.new(7))
        await tester.drain() if place == "retry" else None
        await getattr(app.admin, act)((await app.admin.jobs(place)).rows)
        return await only(app, to)


async def promoted(job: Job, **when: float) -> bytes:
    async with shop() as (app, tester):
        await app.enqueue(job, **when)
        await tester.tick(30.5)
        return await only(app, "queue:mail")


async def cancelled() -> bytes:
    async with shop() as (app, _):
        receipt = await app.enqueue(send.new(7))
        await app.cancel(receipt.jid)
        return await only(app, "dead")


async def periodic() -> bytes:
    async with shop() as (app, _):
        await app.cron.run_now("hourly")
        return await only(app, "queue:mail")


async def crashed(times: int) -> bytes:
    raw = await enqueued(send.new(7))
    for _ in range(times):
        raw, _ = recover(raw, decode(raw), NOW, lambda: 0.5)
    return raw


OPTIONS = {
    "queue": "mail", "retry": 5, "retry_for": 3600, "retry_queue": "slow", "backtrace": True,
    "dead": False, "tags": ["a", "b"], "expires_in": 60, "timeout": 5,
}  # fmt: skip
ARGUMENTS = [
    None, True, -1, 2**53 + 1, 0.1, 1e22, -0.0, "é 日本 🎉", "</b>\"\\\n\x01\u2028",
    {"b": [1], "a": {}},
]  # fmt: skip


# How an app comes to write it.
WRITE: dict[str, Callable[[], Awaitable[bytes]]] = {
    "queued": lambda: enqueued(send.new(7, "hello")),
    "options": lambda: enqueued(send.using(**OPTIONS).new(7)),
    "unique": lambda: enqueued(send.using(unique_for=60, unique_until="start").new(7)),
    "arguments": lambda: enqueued(Job("Ruby::Worker", ARGUMENTS, queue="mail", cattr={"id": 1})),
    "scheduled": lambda: enqueued(send.new(7), "scheduled", in_=30),
    "promoted": lambda: promoted(send.new(7), in_=30),
    "failed-once": lambda: failed(fails.new(7), 1),
    "failed-twice": lambda: failed(fails.new(7), 2),
    "failed-in-another-queue": lambda: failed(fails_elsewhere.new(7), 1),
    "retried": lambda: by_hand("requeue", "retry", "queue:mail"),
    "dead": lambda: failed(dies.new(7), 1, "dead"),
    "snoozed": lambda: failed(sleepy.new(7), 1, "scheduled"),
    "cancelled": lambda: cancelled(),
    "killed": lambda: by_hand("kill", "queue:mail", "dead"),
    "retry-by-hand": lambda: by_hand("retry", "retry", "queue:mail"),
    "requeued": lambda: by_hand("requeue", "retry", "queue:mail"),
    "recovered": lambda: crashed(1),
    "poison": lambda: crashed(4),
    "periodic": lambda: periodic(),
}


def renumbered(written: bytes) -> bytes:
    """With 1 for the first jid, however many tokens an app draws from the fake clock before it."""
    jids = dict.fromkeys(re.findall(rb'"(0{20}[0-9a-f]{4})"', written))
    for number, jid in enumerate(jids, 1):
        written = written.replace(jid, b"%024x" % number)
    return written


@pytest.mark.parametrize("state", WHY)
async def test_the_bytes_of_each_state(state: str) -> None:
    written = renumbered(await WRITE[state]())
    kept = GOLDEN / f"{state}.json"
    if os.environ.get("WRITE_GOLDEN"):
        kept.write_bytes(written + b"\n")
    assert written + b"\n" == kept.read_bytes(), f"{kept.name} has changed; it is so: {WHY[state]}"


def test_each_file_is_of_a_state() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(WHY)


def test_no_state_is_only_told_apart_by_spaces_or_names() -> None:
    """What all of them promise: strict JSON, float seconds, the fields that nobody may miss."""
    for path in sorted(GOLDEN.iterdir()):
        text = path.read_text("utf-8")
        job = json.loads(text, parse_constant=pytest.fail)
        assert {"class", "args", "jid", "queue", "retry", "created_at"} <= set(job), path.name
        assert "at" not in job, path.name
        for name in ("created_at", "enqueued_at", "failed_at", "retried_at", "recovered_at"):
            assert isinstance(job.get(name, 0.0), float), f"{path.name}: {name}"
        assert ": " not in text.replace('": "', "").split('"error_message"')[0], path.name


@pytest.mark.interop
def test_ruby_shows_every_state(ruby: Ruby, clean: TestServer) -> None:
    """Each file in each place where it could be: lists and pages answer, with its class and jid."""
    browser = Browser(ruby)
    for path in sorted(GOLDEN.iterdir()):
        raw, job = path.read_bytes().rstrip(b"\n"), json.loads(path.read_bytes())
        clean.cli("FLUSHALL")
        clean.cli("SADD", "queues", "mail")
        clean.cli("LPUSH", "queue:mail", raw)
        places = {"/scheduled": "schedule"}
        if "failed_at" in job:
            places |= {"/retries": "retry", "/morgue": "dead"}
        for place in places.values():
            clean.cli("ZADD", place, NOW, raw)
        for page in ("/", "/queues", "/queues/mail", *places):
            browser.open(page)
        for page in places:
            shown = browser.open(f"{page}/{NOW}-{job['jid']}")
            assert any(job["jid"] in cells for cells in shown.rows), (path.name, page)

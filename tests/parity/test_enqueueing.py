"""docs/parity.md, 1.2: handing jobs over."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from kiqpy import ArgumentError, Job, Worker
from kiqpy.event import JobSuccess
from tests.parity.parity_app import House, note, ran

pytestmark = pytest.mark.anyio


async def test_1_2_the_receipt_comes_when_the_job_is_in_redis(house: House) -> None:
    """Kiq answered `{:ok, job}` for a job that was in its own memory."""
    async with house.client() as shop:
        receipt = await shop.enqueue(note.new(1))
        assert receipt.state == "queued"
        assert [p["jid"] for p in house.payloads("queue:default")] == [receipt.jid]
        assert house.cli("SMEMBERS", "queues") == ["default"]


async def test_1_2_a_delay_and_an_instant_are_kept(house: House) -> None:
    async with house.client() as shop:
        now = house.now()
        await shop.enqueue(note.new(1), in_=60)
        await shop.enqueue(note.new(2), at=datetime.fromtimestamp(now + 120, UTC))
        first, second = house.scores("schedule")
        assert 59 < first - now < 90
        assert abs(second - now - 120) < 0.01
        assert "enqueued_at" not in house.payloads("schedule")[0]


async def test_1_2_an_instant_in_the_past_means_now(house: House) -> None:
    """Kiq took a DateTime for "now", whichever it was; Verk meant it only for the past."""
    async with house.client() as shop:
        assert (await shop.enqueue(note.new(1), at=house.now() - 5)).state == "queued"
        future = datetime.now(UTC) + timedelta(days=1)
        assert (await shop.enqueue(note.new(2), at=future)).state == "scheduled"
        assert (house.cli("LLEN", "queue:default"), house.cli("ZCARD", "schedule")) == (1, 1)


async def test_1_2_delayed_jobs_can_be_run_now(house: House) -> None:
    """Toniq.flush_delayed_jobs()."""
    async with house.open() as shop:
        await shop.enqueue_many([note.using(in_=3600).new(n) for n in range(3)])
        assert (await shop.admin.requeue_all("scheduled")).done == 3
        await house.told(JobSuccess, 3)
    assert sorted(ran) == [0, 1, 2]


async def test_1_2_many_at_once_each_with_its_own_time_and_receipt(house: House) -> None:
    async with house.client() as shop:
        unique = note.using(unique_for=60)
        receipts = await shop.enqueue_many(
            [unique.new(1), unique.new(1), note.using(queue="mail", in_=60).new(2)]
        )
        assert [receipt.state for receipt in receipts] == ["queued", "duplicate", "scheduled"]
        assert receipts[1].jid == receipts[0].jid


async def test_1_2_the_caller_may_choose_the_jid(house: House) -> None:
    async with house.client() as shop:
        job = note.new(1)
        job.payload["jid"] = "mine"
        for given in (job, Job("Ruby::Worker", [1], jid="mine")):
            assert (await shop.enqueue(given)).jid == "mine"
        assert [p["jid"] for p in house.payloads("queue:default")] == ["mine", "mine"]


async def test_1_2_a_jid_is_24_hex_digits_and_always_another(house: House) -> None:
    async with house.client() as shop:
        jids = {(await shop.enqueue(note.new(1))).jid for _ in range(50)}
        assert len(jids) == 50
        assert all(re.fullmatch("[0-9a-f]{24}", jid) for jid in jids)


async def test_1_2_options_of_one_job_travel_with_it(house: House) -> None:
    given = {
        "retry": 3, "dead": False, "queue": "mail", "expires_in": 60, "unique_for": 90,
        "unique_until": "start", "retry_for": 600, "retry_queue": "slow", "backtrace": 5,
        "tags": ["a"],
    }  # fmt: skip
    async with house.client() as shop:
        await shop.enqueue(note.using(**given).new(1))
        [payload] = house.payloads("queue:mail")
        assert {name: payload[name] for name in given} == given
        assert abs(payload["expires_at"] - payload["created_at"] - 60) < 0.01
        await shop.enqueue(note.using(timeout=5, backoff="constant").new(1))
        assert house.payloads("queue:default")[0]["kiq"] == {"timeout": 5, "backoff": "constant"}


async def test_1_2_a_job_of_another_language_needs_no_worker(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue(Job("Ruby::Worker", [1, "a"], queue="ruby", retry=False, custom=7))
        [payload] = house.payloads("queue:ruby")
        assert (payload["class"], payload["args"], payload["retry"], payload["custom"]) == (
            "Ruby::Worker", [1, "a"], False, 7,
        )  # fmt: skip


async def test_1_2_a_rename_keeps_the_name_on_the_wire(house: House) -> None:
    class Mail(Worker, name="Shop::Mail", aliases=["OldMail"]):
        async def perform(self, n: int) -> None:
            ran.append(n)

    async with house.open(workers=[Mail]) as shop:
        await shop.enqueue(Mail.new(1))
        await shop.enqueue(Job("OldMail", [2]))
        await house.told(JobSuccess, 2)
        assert {event.job.class_ for event in house.of(JobSuccess)} == {"Shop::Mail", "OldMail"}
    assert sorted(ran) == [1, 2]


def test_1_2_what_is_wrong_is_an_error_of_the_caller() -> None:
    for args in ((1, 2), (object(),)):
        with pytest.raises(ArgumentError):
            note.new(*args)
    with pytest.raises(ArgumentError, match="class_='': name the class"):
        Job("", [1])

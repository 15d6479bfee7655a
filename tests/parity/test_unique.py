"""docs/parity.md, 1.5: unique jobs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from kiqpy import ConfigError, Kill, worker
from kiqpy.event import JobDead, JobFailure, JobStarted, JobSuccess
from tests.eventually import eventually
from tests.parity.parity_app import House, let_go, note, ran, waits

pytestmark = pytest.mark.anyio


def ttl(house: House) -> float:
    """Of the one lock there is, in seconds; -2 if there is none."""
    keys = house.keys("unique:*")
    return house.cli("PTTL", keys[0]) / 1000 if keys else -2


async def test_1_5_seconds_and_a_conflict_that_is_told(house: House) -> None:
    """Kiq counted milliseconds, and said `{:ok, job}` of a job that was never enqueued."""
    async with house.client() as shop:
        job = note.using(unique_for=90)
        first = await shop.enqueue(job.new(1))
        second = await shop.enqueue(job.new(1))
        assert (second.state, second.jid) == ("duplicate", first.jid)
        assert len(house.payloads("queue:default")) == 1
        assert 60 < ttl(house) <= 90
        assert (await shop.enqueue(job.new(2))).state == "queued"


async def test_1_5_the_lock_is_named_by_a_token_and_holds_the_jid(house: House) -> None:
    async with house.client() as shop:
        receipt = await shop.enqueue(note.using(unique_for=90).new(1))
        [payload] = house.payloads("queue:default")
        assert re.fullmatch("[0-9a-f]{64}", payload["unique_token"])
        assert house.keys("unique:*") == ["unique:" + payload["unique_token"]]
        assert house.cli("GET", "unique:" + payload["unique_token"]) == receipt.jid


async def test_1_5_class_queue_and_arguments_make_the_token(house: House) -> None:
    @worker(unique_for=90)
    async def other(n: int) -> None: ...

    async with house.client(workers=[other, note]) as shop:
        one = note.using(unique_for=90)
        jobs = [one.new(1), one.new("1"), one.new([1]), other.new(1),
                note.using(unique_for=90, queue="mail").new(1)]  # fmt: skip
        receipts = await shop.enqueue_many([*jobs, one.new(1), other.new(n=1)])
        assert [r.state for r in receipts] == ["queued"] * 5 + ["duplicate"] * 2


async def test_1_5_unique_by_takes_the_place_of_a_given_token(house: House) -> None:
    @worker(unique_for=90, unique_by=lambda user, _text: user)
    async def tell(user: int, text: str) -> None: ...

    async with house.client(workers=[tell]) as shop:
        states = [(await shop.enqueue(tell.new(*args))).state
                  for args in ((1, "a"), (1, "b"), (2, "a"))]  # fmt: skip
        assert states == ["queued", "duplicate", "queued"]


async def test_1_5_across_all_the_user_chooses_the_token(house: House) -> None:
    """Exq's `unique_token:` is one for all queues and workers."""

    @worker(unique_for=90, unique_by=lambda n: n, unique_across="all")
    async def pay(n: int) -> None: ...

    @worker(unique_for=90, unique_by=lambda n: n, unique_across="all", queue="mail")
    async def refund(n: int) -> None: ...

    async with house.client(workers=[pay, refund]) as shop:
        receipts = await shop.enqueue_many([pay.new(1), refund.new(1), refund.new(2)])
        assert [receipt.state for receipt in receipts] == ["queued", "duplicate", "queued"]


async def test_1_5_a_scheduled_jobs_lock_lasts_until_it_is_due_and_longer(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue(note.using(unique_for=90, in_=1000).new(1))
        assert 1060 < ttl(house) <= 1090


async def test_1_5_success_frees_the_lock_at_the_end(house: House) -> None:
    async with house.open() as shop:
        job = waits.using(unique_for=90, unique_until="success")
        await shop.enqueue(job.new(1))
        await house.told(JobStarted)
        assert (await shop.enqueue(job.new(1))).state == "duplicate"
        let_go()
        await house.told(JobSuccess)
        assert house.keys("unique:*") == []


async def test_1_5_start_frees_the_lock_before_the_job_runs(house: House) -> None:
    async with house.open() as shop:
        job = waits.using(unique_for=90, unique_until="start")
        await shop.enqueue(job.new(1))
        await house.told(JobStarted)
        assert (await shop.enqueue(job.new(1))).state == "queued"
        let_go()
        await house.told(JobSuccess, 2)


async def test_1_5_expiry_leaves_the_lock_to_time(house: House) -> None:
    async with house.open() as shop:
        job = note.using(unique_for=90, unique_until="expiry")
        await shop.enqueue(job.new(1))
        await house.told(JobSuccess)
        assert (await shop.enqueue(job.new(1))).state == "duplicate"


async def test_1_5_a_retry_extends_the_lock_and_death_frees_it(house: House) -> None:
    """In Kiq a dead job's lock stayed until its time was over."""
    outcomes: list[Any] = [ValueError("no"), Kill("bad")]

    @worker(unique_for=90, backoff=lambda *_: 5000.0)
    async def breaks() -> None:
        raise outcomes[len(house.of(JobFailure))]

    async with house.open(workers=[breaks]) as shop:
        await shop.enqueue(breaks.new())
        await house.told(JobFailure)
        assert ttl(house) > 5000
        await shop.admin.requeue_all("retry")
        await house.told(JobDead)
        assert house.keys("unique:*") == []


async def test_1_5_only_its_owner_frees_a_lock(house: House) -> None:
    """Kiq deleted whatever was there."""
    async with house.open() as shop:
        await shop.enqueue(waits.using(unique_for=90).new(1))
        await house.told(JobStarted)
        [key] = house.keys("unique:*")
        house.cli("SET", key, "another-jid", "PX", 90_000)
        let_go()
        await house.told(JobSuccess)
        assert house.cli("GET", key) == "another-jid"


async def test_1_5_an_operator_keeps_or_frees_the_lock(house: House) -> None:
    async with house.client() as shop:
        for unlock, left in ((False, 1), (True, 0)):
            house.cli("FLUSHALL")
            receipt = await shop.enqueue(note.using(unique_for=90).new(1))
            assert (await shop.admin.delete(receipt.jid, unlock=unlock)).done == 1
            assert len(house.keys("unique:*")) == left


async def test_1_5_kiqs_locks_are_freed(house: House) -> None:
    """Kiq's lock holds how long it lasts, not whose it is; its token is a SHA-1."""
    token = "ab" * 20
    house.cli("SET", "unique:" + token, "90000", "PX", 90_000)
    async with house.open() as shop:
        job = note.new(1)
        job.payload |= {"unique_token": token, "unlocks_at": house.now() + 90}
        await shop.enqueue(job)
        await house.told(JobSuccess)
        await eventually(lambda: house.keys("unique:*") == [], "the lock")
    assert ran == [1]


def test_1_5_an_unknown_unique_until_is_refused() -> None:
    """Kiq made nil of it, of "success" too."""
    with pytest.raises(ConfigError, match=r"unique_until='succes': did you mean 'success'\?"):
        note.using(unique_for=1, unique_until="succes")
    with pytest.raises(ConfigError, match="no effect without unique_for"):
        note.using(unique_until="start")


async def test_1_5_many_clients_at_once_make_one_job(house: House) -> None:
    async with house.client() as one, house.client() as other:
        job = note.using(unique_for=90)
        receipts = await asyncio.gather(*(
            app.enqueue(job.new(1)) for _ in range(20) for app in (one, other)
        ))  # fmt: skip
        assert sorted(r.state for r in receipts) == ["duplicate"] * 39 + ["queued"]
        assert len({r.jid for r in receipts}) == 1

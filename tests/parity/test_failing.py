"""docs/parity.md, 1.4: failing, trying again, giving up."""

from __future__ import annotations

from typing import Any

import pytest

from kiqpy import Job, Worker, worker
from kiqpy.event import JobDead, JobFailure, JobStopped
from tests.eventually import eventually
from tests.parity.parity_app import House, counts, fails, ran

pytestmark = pytest.mark.anyio
CURVES = [
    ("sidekiq", 15, 24), ("kiq", 17, 46), ("exq", 16, 76), ("toniq", 0.25, 0.25),
    ("queuetopia", 2, 2), ("constant", 15, 15), ("immediate", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("curve", "least", "most"), CURVES, ids=[name for name, *_ in CURVES])
async def test_1_4_the_first_delay_of_each_curve(
    house: House, curve: str, least: float, most: float
) -> None:
    async with house.open(backoff=curve, schedulers=[]) as shop:
        before = house.now()
        await shop.enqueue(fails.new(1))
        failure = await house.told(JobFailure)
        assert least <= failure.retry_in_s <= most
        await eventually(lambda: house.cli("ZCARD", "retry") == 1, "the retry")
        [due] = house.scores("retry")
        assert before + least <= due <= house.now() + most


async def test_1_4_a_workers_own_backoff(house: House) -> None:
    """Verk's retry_at/2, Exq's Backoff behaviour, Toniq's strategies, Queuetopia's backoff/1."""
    heard: list[Any] = []

    def mine(count: int, error: BaseException, job: Job) -> float:
        heard.append((count, str(error), job.args))
        return 777

    @worker(backoff=mine)
    async def breaks(n: int) -> None:
        raise ValueError("no")

    async with house.open(workers=[breaks]) as shop:
        await shop.enqueue(breaks.new(7))
        assert (await house.told(JobFailure)).retry_in_s == 777
    assert heard == [(0, "no", [7])]


@pytest.mark.parametrize(
    ("retry", "runs", "dead"), [(2, [1, 2, 3], 1), (0, [1], 1), (False, [1], 0)]
)
async def test_1_4_how_often_a_job_is_tried(
    house: House, retry: bool | int, runs: list[int], dead: int
) -> None:
    async with house.open(backoff="immediate") as shop:
        await shop.enqueue(counts.using(retry=retry).new())
        await house.told(JobStopped, len(runs))
        assert house.of(JobFailure)[-1].retry_in_s is None
    assert ran == runs
    assert house.cli("ZCARD", "dead") == dead
    assert house.cli("ZCARD", "retry") == 0


async def test_1_4_true_means_25(house: House) -> None:
    async with house.open(backoff="immediate", poll_interval=0.01) as shop:
        await shop.enqueue(counts.using(retry=True).new())
        await house.told(JobDead)
    assert len(ran) == 26


async def test_1_4_exhausted_goes_to_the_dead_set_unless_it_is_not_wanted(house: House) -> None:
    async with house.open() as shop:
        await shop.enqueue(fails.using(retry=0, dead=False).new(1))
        await shop.enqueue(fails.using(retry=0).new(2))
        await house.told(JobStopped, 2)
    assert [p["args"] for p in house.payloads("dead")] == [[2]]


async def test_1_4_who_wants_to_hear_of_the_end_is_called(house: House) -> None:
    """Queuetopia's handle_failed_job!, Sidekiq's sidekiq_retries_exhausted."""
    heard: list[Any] = []

    class Breaks(Worker, retry=0):
        async def perform(self, n: int) -> None:
            raise ValueError("no")

        def retries_exhausted(self, job: Job, error: BaseException) -> None:
            heard.append(("worker", job.args, str(error)))

    def buried(job: Job, error: BaseException) -> None:
        heard.append(("app", job.args, str(error)))

    async with house.open(workers=[Breaks], death_handlers=[buried]) as shop:
        await shop.enqueue(Breaks.new(7))
        await eventually(lambda: len(heard) == 2, "both hooks")
    assert heard == [("worker", [7], "no"), ("app", [7], "no")]


async def test_1_4_fields_of_a_failure(house: House) -> None:
    """As Sidekiq: `failed_at` stays the first, `retried_at` comes with the second."""
    async with house.open(retry=1, backoff="immediate", schedulers=[]) as shop:
        await shop.enqueue(counts.using(backtrace=2).new())
        await house.told(JobStopped)
        [first] = house.payloads("retry")
        assert (first["retry_count"], first["error_class"], first["error_message"]) == (
            0, "ValueError", "no",
        )  # fmt: skip
        assert "retried_at" not in first
        assert isinstance(first["error_backtrace"], str)
        assert (await shop.admin.requeue_all("retry")).done == 1
        await house.told(JobDead)
        [second] = house.payloads("dead")
        assert second["retry_count"] == 1
        assert second["failed_at"] == first["failed_at"]
        assert second["retried_at"] > first["failed_at"]


async def test_1_4_a_retry_waits_in_redis_not_in_the_process(house: House) -> None:
    """Toniq slept in memory; its attempts began anew with each restart."""
    async with house.open(schedulers=[]) as shop:
        await shop.enqueue(counts.new())
        await house.told(JobStopped)
    assert [p["retry_count"] for p in house.payloads("retry")] == [0]
    async with house.open() as shop:
        await shop.admin.requeue_all("retry")
        await house.told(JobStopped, 2)
    assert ran == [1, 2]


async def test_1_4_unknown_fields_survive_a_retry(house: House) -> None:
    """Exq dropped all that it did not know."""
    async with house.open() as shop:
        await shop.enqueue(Job("fails", [1], bid="b", tags=["t"], strange={"a": [1.0]}))
        await house.told(JobStopped)
    [payload] = house.payloads("retry")
    assert (payload["bid"], payload["tags"], payload["strange"]) == ("b", ["t"], {"a": [1.0]})

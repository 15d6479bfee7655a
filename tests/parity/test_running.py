"""docs/parity.md, 1.3: declaring workers and running jobs."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from kiqpy import Discard, Kill, Snooze, Worker, current_job, worker
from kiqpy._payload.json import encode
from kiqpy.event import (
    JobAborted,
    JobCancelled,
    JobDead,
    JobFailure,
    JobSnoozed,
    JobStarted,
    JobSuccess,
)
from tests.eventually import eventually
from tests.parity.parity_app import House, note, ran, waits

pytestmark = pytest.mark.anyio


async def test_1_3_functions_and_classes_with_any_number_of_arguments(house: House) -> None:
    @worker
    async def bare() -> None:
        ran.append(())

    @worker
    def plain(a: int, *rest: int, key: str = "k") -> None:
        ran.append((a, *rest, key))

    class Export(Worker, queue="default"):
        async def perform(self, a: int, b: int = 2) -> None:
            ran.append((self.job.class_, a, b))

    async with house.open(workers=[bare, plain, Export]) as shop:
        for job in (bare.new(), plain.new(1, 2, 3, key="x"), Export.new(1)):
            await shop.enqueue(job)
        await house.told(JobSuccess, 3)
    assert sorted(ran, key=len) == [(), ("Export", 1, 2), (1, 2, 3, "x")]


async def test_1_3_what_is_returned_is_ignored(house: House) -> None:
    """Queuetopia took anything but :ok for a failure."""

    @worker
    async def returns(what: Any) -> Any:
        return {"error": ("error", "no"), "false": False, "exception": ValueError("no")}[what]

    async with house.open(workers=[returns]) as shop:
        for what in ("error", "false", "exception"):
            await shop.enqueue(returns.new(what))
        await house.told(JobSuccess, 3)
    assert house.of(JobFailure) == []


@pytest.mark.parametrize("how", ["returned", "raised"])
async def test_1_3_signals_say_what_is_to_become_of_a_job(house: House, how: str) -> None:
    @worker
    async def says(what: str) -> Any:
        signal = {"snooze": Snooze(1000), "discard": Discard("enough"), "kill": Kill("bad")}[what]
        if how == "raised":
            raise signal
        return signal

    async with house.open(workers=[says]) as shop:
        for what in ("snooze", "discard", "kill"):
            await shop.enqueue(says.new(what))
        assert (await house.told(JobSnoozed)).in_s == 1000
        assert (await house.told(JobAborted)).reason == "enough"
        assert (await house.told(JobDead)).job.args == ["kill"]
    assert [p["args"] for p in house.payloads("schedule")] == [["snooze"]]
    assert house.cli("ZCARD", "retry") == 0


async def test_1_3_durations_may_be_timedeltas(house: House) -> None:
    minute = timedelta(minutes=1)

    @worker(backoff=lambda *_: minute)
    async def put_off(how: str) -> Any:
        if how == "raise":
            raise ValueError("no")
        return Snooze(minute)

    async with house.open(workers=[put_off]) as shop:
        await shop.enqueue_many([put_off.new("raise"), put_off.new("snooze")])
        assert (await house.told(JobFailure)).retry_in_s == 60
        assert (await house.told(JobSnoozed)).in_s == 60


async def test_1_3_a_snooze_uses_no_retry_and_keeps_the_lock(house: House) -> None:
    @worker(retry=0, unique_for=60)
    async def later() -> Any:
        ran.append(current_job().attempt)
        return Snooze(0.05) if len(ran) < 3 else None

    async with house.open(workers=[later]) as shop:
        receipt = await shop.enqueue(later.new())
        await house.told(JobSnoozed)
        if not house.of(JobSuccess):
            again = await shop.enqueue(later.new())
            assert (again.state, again.jid) == ("duplicate", receipt.jid)
        await house.told(JobSuccess)
    assert ran == [1, 1, 1]


async def test_1_3_a_job_that_raises_anything_is_a_failure_and_the_others_go_on(
    house: House,
) -> None:
    """In Kiq a killed job stayed in the backup of a living node."""

    @worker
    async def ends(how: str) -> None:
        raise {"exit": SystemExit(1), "cancel": asyncio.CancelledError()}[how]

    async with house.open(workers=[ends, note], queues={"default": 1}) as shop:
        for how in ("exit", "cancel"):
            await shop.enqueue(ends.new(how))
        await shop.enqueue(note.new(1))
        await house.told(JobSuccess)
        await eventually(lambda: house.cli("ZCARD", "retry") == 2, "two retries")
    assert {p["error_class"] for p in house.payloads("retry")} == {"SystemExit", "CancelledError"}


async def test_1_3_a_timeout_is_a_failure(house: House) -> None:
    @worker(timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with house.open(workers=[slow]) as shop:
        await shop.enqueue(slow.new())
        failure = await house.told(JobFailure)
    assert isinstance(failure.error, TimeoutError)
    assert [p["error_class"] for p in house.payloads("retry")] == ["TimeoutError"]


async def test_1_3_a_running_job_is_cancelled_from_another_process(house: House) -> None:
    """In Exq within five seconds; the dead entry says that it was cancelled."""
    async with house.open() as shop, house.client() as office:
        receipt = await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        began = time.monotonic()
        await office.cancel(receipt.jid)
        await house.told(JobCancelled)
        assert time.monotonic() - began < 5
        [dead] = house.payloads("dead")
        assert (dead["jid"], dead["error_message"]) == (receipt.jid, "cancelled")
        assert house.cli("ZCARD", "retry") == 0


async def test_1_3_a_late_job_is_not_run_and_its_lock_is_free(house: House) -> None:
    job = note.using(expires_in=60, unique_for=600)
    async with house.client() as shop:
        receipt = await shop.enqueue(job.new(1))
    [payload] = house.payloads("queue:default")
    house.cli("DEL", "queue:default")
    house.cli("LPUSH", "queue:default", encode({**payload, "expires_at": house.now() - 1}))
    async with house.open() as shop:
        aborted = await house.told(JobAborted)
        assert (aborted.reason, aborted.job.jid) == ("expired", receipt.jid)
        assert (await shop.enqueue(job.new(1))).state == "queued"
        await house.told(JobSuccess)
    assert ran == [1]


async def test_1_3_an_expiry_counts_from_the_scheduled_time(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue(note.using(expires_in=60).new(1), in_=1000)
        [payload] = house.payloads("schedule")
        assert abs(payload["expires_at"] - house.scores("schedule")[0] - 60) < 1


async def test_1_3_bytes_that_are_no_job_are_dead_and_nothing_leaks(house: House) -> None:
    """In Exq the slot was lost, in Verk the job, in Kiq it stayed in the backup."""
    async with house.open(queues={"default": 1}) as shop:
        await shop.enqueue(note.new(0))
        house.cli("LPUSH", "queue:default", b"no {job")
        assert (await house.told(JobDead)).raw == b"no {job"
        await shop.enqueue(note.new(1))
        await house.told(JobSuccess, 2)
    assert house.cli("ZRANGE", "dead", 0, -1) == ["no {job"]
    assert house.keys("kiq:private|*") == []


async def test_1_3_code_deep_inside_knows_its_job(house: House) -> None:
    async def deep() -> str:
        await asyncio.sleep(0)
        return current_job().jid

    @worker
    async def outer() -> None:
        ran.append(await deep())

    @worker
    def threaded() -> None:
        ran.append(current_job().jid)

    async with house.open(workers=[outer, threaded]) as shop:
        jids = [(await shop.enqueue(job.new())).jid for job in (outer, threaded)]
        await house.told(JobSuccess, 2)
    assert sorted(ran) == sorted(jids)

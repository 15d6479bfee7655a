"""docs/parity.md, 1.8: what is changed while it runs, and the end."""

from __future__ import annotations

import asyncio

import pytest

from kiqpy import ConfigError, StoreRefused, worker
from kiqpy._payload.json import encode
from kiqpy.event import (
    JobStarted,
    JobSuccess,
    ProcessQuiet,
    ProcessStopped,
    QueuePaused,
    QueuePausing,
    QueueRunning,
)
from tests.eventually import eventually
from tests.parity.parity_app import House, Shop, let_go, note, ran, waits

pytestmark = pytest.mark.anyio
FAST = {"heartbeat_interval": 0.1, "lease_ttl": 5.0}


async def test_1_8_quiet_here_and_back(house: House) -> None:
    async with house.open() as shop, house.open(queues={"other": 1}) as witness:
        await shop.quiet()
        await shop.enqueue(note.new(1))
        await witness.enqueue(note.using(queue="other").new(2))
        await house.told(JobSuccess)
        assert ran == [2]
        await shop.quiet(False)
        await house.told(JobSuccess, 2)
    assert ran == [2, 1]


async def test_1_8_quiet_from_afar(house: House) -> None:
    """Exq's TSTP, heard within a heartbeat."""
    async with house.open(**FAST) as shop, house.client() as office:
        assert await office.admin.quiet_process(shop.store.ident)
        await house.told(ProcessQuiet)
        await shop.enqueue(note.new(1))
        await shop.quiet(False)
        await house.told(JobSuccess)


async def test_1_8_a_queue_is_paused_everywhere(house: House) -> None:
    """Verk paused it in one process; the states are its own."""
    async with house.open() as shop, house.client() as office:
        await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        assert await office.pause("default") is True
        assert await office.pause("default") is False
        assert house.cli("SMEMBERS", "paused") == ["default"]
        assert [q.paused for q in await office.admin.queues()] == [True]
        assert (await house.told(QueuePausing)).running == 1
        await shop.enqueue(note.new(2))
        let_go()
        await house.told(QueuePaused)
        assert ran == [1]
        assert await office.resume("default") is True
        assert await office.resume("default") is False
        await house.told(JobSuccess, 2)
        assert house.of(QueueRunning) == [QueueRunning("default")]


async def test_1_8_queues_come_and_go(house: House) -> None:
    async with house.open() as shop:
        await shop.enqueue(note.using(queue="new").new(1))
        await shop.add_queue("new", 2)
        await house.told(JobSuccess)
        assert shop.subscriptions() == {"default": 3, "new": 2}
        with pytest.raises(ConfigError, match="'new' is worked on already"):
            await shop.add_queue("new")
        await shop.remove_queue("new")
        assert shop.subscriptions() == {"default": 3}
        with pytest.raises(ConfigError, match="no queue 'new' is worked on here"):
            await shop.remove_queue("new")
        await shop.add_queue("new")
        assert shop.subscriptions()["new"] == 25
        await shop.unsubscribe_all()
        assert shop.subscriptions() == {}
        await shop.enqueue(note.new(2))
        await shop.add_queue("default", 1)
        await house.told(JobSuccess, 2)


async def test_1_8_removing_a_queue_lets_its_jobs_end(house: House) -> None:
    """Verk killed them."""
    async with house.open() as shop:
        await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        await shop.remove_queue("default")
        let_go()
        await house.told(JobSuccess)


async def test_1_8_a_queue_is_scaled(house: House) -> None:
    async with house.open(queues={"default": 1}) as shop:
        await shop.enqueue_many([waits.new(n) for n in range(3)])
        await house.told(JobStarted)
        assert ran == [0]
        shop.scale("default", 3)
        await house.told(JobStarted, 3)
        let_go()
        await house.told(JobSuccess, 3)


async def test_1_8_a_wake_up_looks_now(house: House) -> None:
    """Queuetopia's send_poll: a job that another program has put into the schedule."""
    async with house.open(poll_interval=300) as shop:
        job = note.new(1)
        job.payload["jid"] = "j"
        await shop.enqueue(note.new(0))
        await house.told(JobSuccess)
        house.cli("ZADD", "schedule", 1, encode(job.payload))
        await shop.wake()
        await house.told(JobSuccess, 2)


async def test_1_8_clear_drops_everything_but_not_under_the_living(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue_many([
            note.new(1), note.using(in_=60).new(2), note.using(unique_for=60, queue="mail").new(3),
        ])  # fmt: skip
        house.cli("SET", "stat:processed", 5)
        house.cli("SET", "somebody:else", 1)
        async with house.open():
            with pytest.raises(StoreRefused, match="processes live"):
                await shop.clear()
        await shop.clear()
        left = [key for key in house.keys("*") if not key.startswith("kiq:")]
        assert left == ["somebody:else"]
        house.cli("DEL", "somebody:else")


async def test_1_8_one_place_is_cleared(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue_many([note.using(in_=60).new(n) for n in range(3)])
        assert await shop.admin.clear("scheduled") == 3
        assert await shop.admin.clear("scheduled") == 0


async def test_1_8_a_stop_waits_then_gives_back(house: House) -> None:
    """Kiq killed running jobs at once and left them to be resurrected a minute later."""
    async with house.open(queues={"default": 2}, shutdown_timeout=20) as shop:
        await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        stopping = asyncio.create_task(shop.stop())
        assert await asyncio.wait({stopping}, timeout=0.7) == (set(), {stopping})
        let_go()
        await stopping
        assert house.of(ProcessStopped)[0].released == 0
        assert len(house.of(JobSuccess)) == 1
    assert house.cli("LLEN", "queue:default") == 0


async def test_1_8_what_outlasts_the_grace_goes_back_uncounted(house: House) -> None:
    async with house.open(shutdown_timeout=0) as shop:
        await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
    [payload] = house.payloads("queue:default")
    assert "retry_count" not in payload
    assert "recovered" not in payload
    assert house.of(ProcessStopped)[0].released == 1


async def test_1_8_the_buffer_is_flushed_at_the_stop(house: House) -> None:
    async with Shop(redis_url=house.server.url, flush_interval=5).client_only() as shop:
        for n in range(20):
            shop.enqueue_nowait(note.new(n))
    assert house.cli("LLEN", "queue:default") == 20


async def test_1_8_a_workers_own_limit(house: House) -> None:
    """Toniq's max_concurrency, per process."""

    @worker(max_concurrency=1)
    async def alone(n: int) -> None:
        ran.append(n)
        assert ran.count("in") == 0
        ran.append("in")
        await asyncio.sleep(0.01)
        ran.remove("in")

    async with house.open(workers=[alone]) as shop:
        await shop.enqueue_many([alone.new(n) for n in range(3)])
        await house.told(JobSuccess, 3)
        await eventually(lambda: sorted(ran) == [0, 1, 2], "all of them")

"""docs/parity.md, 1.6: where running jobs are kept, and who brings them back."""

from __future__ import annotations

import pytest

from kiqpy._payload.json import encode
from kiqpy.event import JobFenced, JobRecovered, JobStarted, JobSuccess
from tests.eventually import eventually
from tests.parity.parity_app import House, let_go, note, ran, waits

pytestmark = pytest.mark.anyio
SOON = {"suspicion": 0.3, "heartbeat_interval": 0.1, "lease_ttl": 5.0}


def leave_behind(house: House, ident: str, *jids: str, queue: str = "default") -> None:
    """What a process has in its hands when it dies; its lease has run out."""
    for n, jid in enumerate(jids, 1):
        job = {"class": "note", "args": [jid], "jid": jid, "queue": queue}
        house.cli("HSET", f"kiq:private|{ident}|{queue}", n, encode(job))
    house.cli("SADD", "kiq:privs", f"{ident}|{queue}")


async def test_1_6_a_running_job_is_in_this_processs_own_hash(house: House) -> None:
    async with house.open() as shop:
        receipt = await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        [key] = house.keys("kiq:private|*")
        assert key == f"kiq:private|{shop.store.ident}|default"
        assert receipt.jid in str(house.cli("HVALS", key))
        assert house.cli("LLEN", "queue:default") == 0
        let_go()
        await house.told(JobSuccess)
        await eventually(lambda: house.keys("kiq:private|*") == [], "the ack")


async def test_1_6_many_are_fetched_at_once_and_no_more_than_may_run(house: House) -> None:
    """Exq: one job per queue and poll."""
    async with house.open(queues={"default": 4}) as shop:
        await shop.enqueue_many([waits.new(n) for n in range(9)])
        await house.told(JobStarted, 4)
        assert sorted(ran) == [0, 1, 2, 3]
        assert house.cli("LLEN", "queue:default") == 5
        let_go()
        await house.told(JobSuccess, 9)


async def test_1_6_a_dead_processs_jobs_run_again_in_their_order(house: House) -> None:
    """Any process brings them back, no leader is needed; Kiq put them last in the queue."""
    leave_behind(house, "gone:1:aa", "a", "b", "c")
    async with house.client() as shop:
        await shop.enqueue(note.new("later"))
    async with house.open(queues={"default": 1}, **SOON):
        await house.told(JobRecovered, 3)
        await house.told(JobSuccess, 4)
        recovered = [event.job.recovered for event in house.of(JobSuccess)]
    assert sorted(recovered) == [0, 1, 1, 1]
    assert [jid for jid in ran if jid != "later"] == ["a", "b", "c"]


async def test_1_6_a_process_that_lives_is_left_alone(house: House) -> None:
    leave_behind(house, "busy:1:aa", "a")
    house.cli("SET", "kiq:lease:busy:1:aa", "1", "PX", 60_000)
    leave_behind(house, "gone:1:bb", "b")
    async with house.open(**SOON):
        await house.told(JobRecovered)
        await house.told(JobSuccess)
    assert ran == ["b"]
    assert house.cli("HLEN", "kiq:private|busy:1:aa|default") == 1


async def test_1_6_what_is_not_owned_any_more_is_not_acked(house: House) -> None:
    """An ack by jid or by text took what had meanwhile been given to another."""
    async with house.open() as shop:
        await shop.enqueue(waits.new(1))
        await house.told(JobStarted)
        [key] = house.keys("kiq:private|*")
        [raw] = house.cli("HVALS", key)
        house.cli("DEL", key)
        house.cli("HSET", "kiq:private|other:1:aa|default", 1, raw)
        let_go()
        await house.told(JobFenced)
        assert house.cli("HLEN", "kiq:private|other:1:aa|default") == 1
        assert house.cli("GET", "stat:processed") is None
        house.cli("DEL", "kiq:private|other:1:aa|default")


async def test_1_6_a_clean_stop_leaves_nothing_behind(house: House) -> None:
    async with house.open(shutdown_timeout=0) as shop:
        ident = shop.store.ident
        await shop.enqueue_many([waits.new(n) for n in range(3)])
        await house.told(JobStarted, 3)
    assert [p["args"] for p in house.payloads("queue:default")] == [[0], [1], [2]]
    assert house.cli("SMEMBERS", "processes") == []
    left = [*house.keys(f"*{ident}*")]
    assert [key for key in left if not key.startswith("kiq:settle:")] == []

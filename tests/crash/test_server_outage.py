"""A server that dies, is away for long, loses its data, or refuses to write.

The invariant: what was acked survives every one of these if the server keeps its data; what runs
is not stolen while nobody could renew a lease; and what the server has lost is fenced, not fatal.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from kiqpy import App, Job, current_job, worker
from kiqpy.clock import SystemClock
from kiqpy.store._session import Session
from kiqpy.store.redis.backend import RedisBackend
from kiqpy.store.redis.connections import Connections
from tests.crash.journal import everywhere, held, queued, words
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ran: Counter[str] = Counter()
ended: Counter[str] = Counter()


@worker(name="carry", retry=False)
async def carry(seconds: float) -> None:
    jid = current_job().jid
    ran[jid] += 1
    await asyncio.sleep(seconds)
    ended[jid] += 1


class Shop(App):
    queues = {"outage": 10}
    workers = [carry]
    heartbeat_interval = 0.2
    poll_interval = 0.2
    confirm_timeout = 60.0
    push_timeout = 60.0


@pytest.fixture(autouse=True)
def forget() -> None:
    ran.clear()
    ended.clear()


@pytest.fixture
def durable() -> Iterator[TestServer]:
    with TestServer(appendonly=True) as server:
        yield server


def job(n: int, seconds: float = 0.01) -> Job:
    return Job("carry", [seconds], queue="outage", jid=f"j{n}")


def hear(shop: App, *patterns: str) -> list[Any]:
    heard: list[Any] = []
    for pattern in patterns:
        shop.attach(pattern, heard.append)
    return heard


async def test_a_killed_server_with_aof_loses_no_acked_job(durable: TestServer) -> None:
    """Five times killed -9 and restarted while jobs come in and run: each acked job runs once."""
    shop = Shop(redis_url=durable.url, lease_ttl=30.0)
    heard = hear(shop, "job.recovered", "job.fenced", "queue.restarted")
    acked: set[str] = set()
    numbers = iter(range(3000))
    stopping = False

    async def customer() -> None:
        for n in numbers:
            if stopping:
                return
            acked.add((await shop.enqueue(job(n, 0.002))).jid)

    async with shop:
        customers = [asyncio.ensure_future(customer()) for _ in range(8)]
        for _ in range(5):
            before = len(acked)
            await eventually(lambda b=before: len(acked) > b + 100, "customers to be served")
            await asyncio.to_thread(durable.restart)
        stopping = True
        await asyncio.gather(*customers)
        await eventually(lambda: ended.keys() >= acked, "every acked job to run", 30)
        await eventually(lambda: not held(durable), "everything to be settled")
    assert len(acked) >= 500
    assert ended == Counter(acked)
    assert ran == ended
    assert not heard
    assert not everywhere(durable, ["outage"])


async def test_an_outage_longer_than_the_lease_steals_nothing(durable: TestServer) -> None:
    """All leases are gone when the server comes back: two live processes keep what they run,

    although a third looks for dead ones before they had a chance to say that they live.
    """
    options = {"redis_url": durable.url, "lease_ttl": 2.0, "heartbeat_interval": 1.0}
    one, two = Shop(**options, suspicion=2.5), Shop(**options, suspicion=2.5)
    stolen = [*(hear(shop, "job.recovered", "job.fenced") for shop in (one, two))]
    third = Session(RedisBackend(durable.url, "third:1:aa", suspicion_s=2.5), SystemClock())
    suspected = 0
    async with one, two:
        idents = one.store.ident, two.store.ident
        for n in range(20):
            await one.enqueue(job(n, 6.0))
        await eventually(lambda: len(ran) == 20, "all to run")
        assert len(held(durable)) == 2
        await asyncio.to_thread(durable.kill)
        trusted = [shop.store.trusted for shop in (one, two)]
        gone = time.monotonic() + 2.0  # by the server's own clock
        await eventually(lambda: not any(ask() for ask in trusted), "both to know it")
        await eventually(lambda: time.monotonic() > gone, "the leases to run out")
        await asyncio.to_thread(durable.start)
        while durable.cli("EXISTS", *(f"kiq:lease:{ident}" for ident in idents)) != 2:
            sweep = await third.rescue()
            assert not sweep.rescued
            suspected += sweep.suspects
        await eventually(lambda: len(ended) == 20, "all to end", 30)
        await eventually(lambda: not held(durable), "everything to be settled")
        await third.close()
    assert suspected >= 2, "nobody looked while the leases were gone"
    assert ran == Counter(f"j{n}" for n in range(20))
    assert stolen == [[], []]
    assert not everywhere(durable, ["outage"])


@pytest.mark.parametrize("every", [3, 7])
@pytest.mark.parametrize("what", [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")])
async def test_at_every_kth_call(
    clean: TestServer, monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...], every: int
) -> None:
    """The server forgets its scripts, or hangs up on everybody, at every k-th call of a verb."""
    calls, strikes = Counter[str](), Counter[str]()
    original = Connections.call

    async def call(self: Connections, name: str, *rest: Any) -> Any:
        calls[name] += 1
        if calls[name] % every == 0:
            strikes[name] += 1
            sent = asyncio.ensure_future(original(self, name, *rest))
            await asyncio.sleep(0)  # under way
            clean.cli(*what)
            return await sent
        return await original(self, name, *rest)

    shop = Shop(redis_url=clean.url, lease_ttl=30.0)
    heard = hear(shop, "job.recovered", "job.fenced", "queue.restarted")
    async with shop:
        monkeypatch.setattr(Connections, "call", call)
        for n in range(300):
            shop.enqueue_nowait(job(n))
            if n % 10 == 9:
                await shop.flush()
        await eventually(lambda: len(ended) == 300, "all to run", 60)
        await eventually(lambda: not held(clean), "everything to be settled")
        monkeypatch.undo()
    assert strikes.keys() >= {"push", "fetch", "settle"}
    assert ran == Counter(f"j{n}" for n in range(300))
    assert not heard
    assert not everywhere(clean, ["outage"])


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    ],
    ids=["full", "read only"],
)
async def test_a_server_that_does_not_write(
    clean: TestServer, refuse: tuple[str, ...], allow: tuple[str, ...]
) -> None:
    """OOM and READONLY: jobs are buffered, and delivered once when it is over."""
    shop = Shop(redis_url=clean.url, lease_ttl=30.0, confirm_timeout=0.2)
    heard = hear(shop, "job.recovered", "job.fenced", "queue.restarted")
    async with shop:
        await shop.enqueue(job(0))
        clean.cli(*refuse)
        try:
            receipts = [await shop.enqueue(job(n)) for n in range(1, 100)]
            assert {receipt.state for receipt in receipts} == {"buffered"}
            assert shop.client.snapshot().buffered == 99
        finally:
            clean.cli(*allow)
        await shop.flush()
        await eventually(lambda: len(ended) == 100, "all to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert ran == Counter(f"j{n}" for n in range(100))
    assert not heard
    assert not everywhere(clean, ["outage"])


async def test_what_runs_is_settled_on_a_full_server(clean: TestServer) -> None:
    """An ack frees memory: a server that is full must take it, or it stays full."""
    shop = Shop(redis_url=clean.url, lease_ttl=1.0)
    heard = hear(shop, "process.lease_lapsed", "job.fenced", "job.recovered")
    async with shop:
        for n in range(10):
            await shop.enqueue(job(n, 0.5))
        await eventually(lambda: len(ran) == 10, "all to run")
        clean.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            await eventually(lambda: len(ended) == 10, "all to end")
            await eventually(lambda: not held(clean), "everything to be settled", 5)
            await eventually(lambda: beats(clean) > 10, "heartbeats that count", 5)
        finally:
            clean.cli("CONFIG", "SET", "maxmemory", "0")
    assert not heard


def beats(server: TestServer) -> int:
    """How many milliseconds the lease has left."""
    [lease] = words(server.cli("KEYS", "kiq:lease:*")) or [""]
    left = server.cli("PTTL", lease)
    assert isinstance(left, int)
    return left


async def test_everything_is_flushed_under_a_running_process(clean: TestServer) -> None:
    """FLUSHALL: what runs ends, its settles are fenced, the process registers anew."""
    shop = Shop(redis_url=clean.url, lease_ttl=30.0)
    fenced = hear(shop, "job.fenced")
    async with shop:
        for n in range(5):
            await shop.enqueue(job(n, 0.5))
        await eventually(lambda: len(ran) == 5, "all to run")
        clean.cli("FLUSHALL")
        await eventually(lambda: len(fenced) == 5, "all to be fenced")
        assert len(ended) == 5
        ident = shop.store.ident
        await eventually(lambda: ident in words(clean.cli("SMEMBERS", "processes")), "a new entry")
        members = words(clean.cli("SMEMBERS", "kiq:privs"))
        assert members == [f"{ident}|outage"]
        assert clean.cli("EXISTS", f"kiq:lease:{ident}", ident) == 2
        for n in range(5, 10):
            await shop.enqueue(job(n))
        await eventually(lambda: len(ended) == 10, "new jobs to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert ran == Counter(f"j{n}" for n in range(10))
    assert not queued(clean, "outage")

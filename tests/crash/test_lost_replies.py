"""Lost replies and late requests lose no job and duplicate none.

The invariant: a job whose receipt says `queued` is in Redis exactly once; a job whose client died
before its receipt is there once or not at all; and whatever a live process claims, it runs, once.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
from collections import Counter

import pytest

from kiqpy import App, Job, Receipt, current_job, worker
from kiqpy.store.redis.backend import RedisBackend
from tests.crash.journal import Oracle, environment, everywhere, held, jids, queued
from tests.crash.proxy import Messages, Proxy
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.25  # the client's; what is late is later than that
JOBS = 2000
SEEDS = [7, 8]
ran: Counter[str] = Counter()


@worker(name="touch", retry=False)
async def touch(_n: int) -> None:
    ran[current_job().jid] += 1


class Shop(App):
    queues = {"lost": 20}
    workers = [touch]
    redis_options = {"socket_timeout": TIMEOUT_S}
    heartbeat_interval = 0.2
    lease_ttl = 20.0
    poll_interval = 0.2
    confirm_timeout = 60.0
    push_timeout = 60.0


STORM = (0.05, 0.02, 1.2 * TIMEOUT_S)


def test_the_proxy_tells_messages_apart() -> None:
    wire = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n+OK\r\n$-1\r\n*-1\r\n:5\r\n*0\r\n"
    wire += b"$4\r\n\r\n\r\n\r\n*1\r\n*1\r\n:1\r\n"
    messages = Messages()
    cut = [m for n in range(len(wire)) for m in messages.feed(wire[n : n + 1])]
    assert b"".join(cut) == wire
    assert len(cut) == 8
    assert Messages().feed(wire) == cut


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_enqueue_counts_once(clean: TestServer, seed: int) -> None:
    """2,000 enqueues, four at a time: 2,000 receipts, each of its own job, and 2,000 jobs."""
    receipts: dict[int, Receipt] = {}
    numbers = iter(range(JOBS))

    async def some(shop: Shop) -> None:
        for n in numbers:
            receipts[n] = await shop.enqueue(Job("touch", [n], queue="lost", jid=f"job-{n}"))

    async with Proxy(clean.url, seed=seed) as proxy:
        async with Shop(redis_url=proxy.url).client_only() as shop:
            proxy.storm(*STORM)
            await asyncio.gather(*(some(shop) for _ in range(4)))
        assert proxy.faults["cut"] >= 10, "the proxy did not do its work"
        assert proxy.faults["late"] >= 3, "the proxy did not do its work"
        await eventually(lambda: not proxy.held, "the late requests to arrive")

    assert receipts == {n: Receipt(f"job-{n}", "queued") for n in range(JOBS)}
    assert jids(queued(clean, "lost")) == Counter(f"job-{n}" for n in range(JOBS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_claimed_job_runs_once(clean: TestServer, seed: int) -> None:
    """The worker's side: fetches, waits, settles and heartbeats lose replies and arrive late.

    At the end nothing is left in a private hash or an inbox of the process, which lives.
    """
    ran.clear()
    wrong: list[object] = []
    numbers = iter(range(JOBS))
    async with Proxy(clean.url, seed=seed) as proxy:
        shop = Shop(redis_url=proxy.url)
        for pattern in ("job.fenced", "job.recovered", "queue.restarted"):
            shop.attach(pattern, wrong.append)

        async def some() -> None:
            for n in numbers:
                await shop.enqueue(Job("touch", [n], queue="lost", jid=f"job-{n}"))

        async with shop:
            proxy.storm(*STORM)
            await asyncio.gather(*(some() for _ in range(8)))
            await eventually(lambda: len(ran) == JOBS, "every job to run", 60)
            await eventually(lambda: not held(clean), "the process to settle all it holds", 20)
            assert proxy.faults["cut"] >= 10
            assert proxy.faults["late"] >= 3
            proxy.heal()
    assert not wrong
    assert ran == Counter(f"job-{n}" for n in range(JOBS))
    assert not everywhere(clean, ["lost"])


@pytest.mark.slow
async def test_a_killed_client_drops_and_doubles_nothing(
    clean: TestServer, tmp_path: pathlib.Path
) -> None:
    """Killed five times and restarted under the same identity, in the middle of a bad network.

    An acked job is in Redis once. One that was tried and never acked is there once or not.
    """
    oracle = Oracle(tmp_path / "oracle")
    script = pathlib.Path(__file__).with_name("enqueue_process.py")
    async with Proxy(clean.url, seed=11) as proxy:
        proxy.storm(*STORM)
        for turn in range(6):
            first, last = turn * 400, turn == 5
            command = [sys.executable, script, proxy.url, oracle.path, str(first), "400"]
            child = await asyncio.create_subprocess_exec(*command, env=environment())
            if not last:
                acked = len(oracle.lines("ok"))
                await eventually(lambda a=acked: len(oracle.lines("ok")) >= a + 100, "acks")
                child.kill()
            assert await child.wait() == (0 if last else -9)
        await eventually(lambda: not proxy.held, "the late requests to arrive")
        assert proxy.faults["cut"] >= 5

    found = jids(queued(clean, "lost"))
    acked = oracle.lines("ok")
    assert len(acked) >= 900
    assert [(f"job-{n}", "queued") for n, _, _ in acked] == [(j, s) for _, j, s in acked]
    assert {n: found[f"job-{n}"] for n, _, _ in acked} == {n: 1 for n, _, _ in acked}
    assert max(found.values()) == 1
    assert found.keys() <= {f"job-{n}" for [n] in oracle.lines("try")}


async def test_a_short_socket_timeout_does_not_cut_waits_short(clean: TestServer) -> None:
    """`redis_options={"socket_timeout": ...}` is for commands: a wait lasts longer than that."""
    options = {"socket_timeout": 0.2}
    backend = RedisBackend(clean.url, "host:1:aa", options=options)
    await backend.wait("lost", 0.5)  # raises nothing
    await backend.close()


@pytest.mark.slow
async def test_a_network_that_goes_dark_and_comes_back(clean: TestServer) -> None:
    """Black hole, then refusal, then light: what was enqueued meanwhile is run once."""
    ran.clear()
    async with (
        Proxy(clean.url, seed=3) as proxy,
        Shop(redis_url=proxy.url, confirm_timeout=0.3) as shop,
    ):
        states = []
        for phase in (lambda: None, proxy.black_hole, proxy.refuse, proxy.heal):
            phase()
            for n in range(20):
                job = Job("touch", [n], queue="lost", jid=f"job-{len(states)}")
                states.append((await shop.enqueue(job)).state)
        await shop.flush()
        await eventually(lambda: len(ran) == len(states), "every job to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert states[:20] == ["queued"] * 20
    assert set(states[20:60]) == {"buffered"}
    assert ran == Counter(f"job-{n}" for n in range(80))
    assert not everywhere(clean, ["lost"])


def test_the_enqueuer_is_a_plain_script(tmp_path: pathlib.Path, clean: TestServer) -> None:
    oracle = Oracle(tmp_path / "oracle")
    script = pathlib.Path(__file__).with_name("enqueue_process.py")
    command = [sys.executable, script, clean.url, oracle.path, "0", "3"]
    subprocess.run(command, env=environment(), check=True, timeout=30)
    assert len(oracle.lines("ok")) == 3

"""What a job costs: commands and round trips that do not depend on the machine."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from kiqpy import App, worker
from tests.app.counting import Counts, Requests, counting
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

JOBS = 2000
ran = 0


@worker
async def noop(n: int) -> None:
    global ran
    ran += 1


def fill(server: TestServer, n: int) -> None:
    job = {"class": "noop", "args": [1], "queue": "default", "retry": True}
    raws = [json.dumps(job | {"jid": f"{k:024x}"}) for k in range(n)]
    for start in range(0, n, 1000):
        server.cli("LPUSH", "queue:default", *raws[start : start + 1000])


async def drained(server: TestServer, limit: int = 100) -> Counts:
    """The counts of a whole life: start, `JOBS` jobs, stop."""
    fill(server, JOBS)
    async with counting(server.socket) as (url, counts):
        jobs = App(redis_url=url, queues={"default": limit}, workers=[noop])
        async with jobs:
            await eventually(
                lambda: server.cli("GET", "stat:processed") == str(JOBS), "all acks", within=60
            )
        return counts


def check_cost(counts: Counts, jobs: int, at_most: float) -> None:
    """Fail if a job costs more commands, or more round trips, than it may."""
    for name, n in (("commands", counts.commands), ("round trips", counts.trips)):
        assert n / jobs <= at_most, f"{n / jobs:.3f} {name} a job: {dict(counts.verbs)}"


def test_the_counter_counts_pieces_and_pipelines() -> None:
    counts = Counts()
    requests = Requests(counts)
    wire = b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nget\r\n$5\r\na\r\nbc\r\n"
    for n in range(len(wire)):
        requests.feed(wire[n : n + 1])
    requests.feed(wire * 3)
    assert counts.verbs == {"PING": 4, "GET": 4}
    assert counts.trips == 3


async def test_a_drain_costs_a_tenth_of_a_command_a_job(clean: TestServer) -> None:
    counts = await drained(clean)
    print(f"{counts.commands / JOBS:.4f} commands, {counts.trips / JOBS:.4f} round trips a job")
    check_cost(counts, JOBS, at_most=0.1)


async def test_a_round_trip_a_job_is_found_out(
    clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same check, with a settling of single jobs planted into the last stage."""
    monkeypatch.setattr("kiqpy._stages.reporter._MOST", 1)
    counts = await drained(clean)
    with pytest.raises(AssertionError, match=r"1\.\d+ commands a job"):
        check_cost(counts, JOBS, at_most=0.1)


async def test_enqueueing_many_costs_a_command_a_frame(clean: TestServer) -> None:
    async with counting(clean.socket) as (url, counts):  # noqa: SIM117  # needs the URL
        async with App(redis_url=url).client_only() as jobs:
            await jobs.enqueue(noop.new(0))
            counts.clear()
            await asyncio.gather(*(jobs.enqueue(noop.new(n)) for n in range(1000)))
            assert counts.commands <= 4
            for n in range(1000):
                jobs.enqueue_nowait(noop.new(n))
            await jobs.flush()
            assert counts.commands <= 8


async def test_an_idle_process_hardly_says_anything(clean: TestServer) -> None:
    """At most two commands a second and half a one for each queue; under 1 % of a CPU."""
    queues = ["a", "b", "c"]
    async with counting(clean.socket) as (url, counts):  # noqa: SIM117  # needs the URL
        async with App(redis_url=url, queues=queues, workers=[noop]):
            await asyncio.sleep(1)  # what is measured is time itself
            counts.clear()
            began, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(8)
            took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
            commands, verbs = counts.commands, dict(counts.verbs)
    print(f"{commands / took_s:.2f} commands/s {verbs}, CPU {cpu_s / took_s:.2%}")
    assert commands / took_s <= 2 + 0.5 * len(queues)
    assert cpu_s / took_s < 0.01

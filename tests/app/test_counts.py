"""What a job costs in calls, handles, commands, bytes and memory, on any machine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import counts as job
from benchmarks.counts import Figures, Scene
from benchmarks.traffic import Counts, Requests, counting
from kiqpy import App, worker
from kiqpy._stages import consumer
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EAGER = sys.version_info >= (3, 12)  # a task that never waits costs no handle there
FAST = bool(sys.modules.get("msgspec"))
TRIES = 5

# About an eighth above what was measured (`python -m benchmarks.counts`). What depends on how jobs
# fall into batches (turns, commands, trips) may be more: it is small, and one for each job is 1.
BOUNDS: dict[str, Figures] = {
    "drain": {
        # 62.6 (75.5) in most runs, up to 3 more in some; a middleware, as any layer, is 6 more.
        "calls": (67.5 if EAGER else 80.5) + (0.0 if FAST else 1.0),
        "handles": 0.15 if EAGER else 1.2,  # 0.077; 1.079
        "turns": 0.1,  # 0.053
        "commands": 0.04,  # 0.017
        "trips": 0.04,
        "sent": 8.0,  # 4.3
        "received": 228.0,  # 203
    },
    "one": {  # most of it is redis-py's
        "calls": 425.0,  # 373 to 382
        "handles": 6.5,  # 6
        "turns": 4.5,  # 4
        "commands": 1.01,
        "trips": 1.01,
        "sent": 440.0,  # 393
        "received": 14.5,  # 13
    },
    "bulk": {
        "calls": 75.0 if not FAST else 72.0,  # 67.4; 64.4
        "handles": 0.01,  # 0.006
        "turns": 0.01,  # 0.004
        "commands": 0.002,  # 0.001
        "trips": 0.002,
        "sent": 208.0,  # 186
        "received": 0.03,  # 0.013
    },
    "nowait": {
        "calls": 102.0 if not FAST else 99.0,  # 91.2; 88.2
        "handles": 0.01,
        "turns": 0.01,
        "commands": 0.002,
        "trips": 0.002,
        "sent": 208.0,
        "received": 0.03,
    },
    "memory": {
        "running": 5400.0 if FAST else 5850.0,  # 4,613 to 4,860; 4,986 to 5,250
        "kept": 40.0,  # 2.3 to 18.7: a table that grew
    },
}


@worker
async def noop(n: int) -> None: ...


def over(figures: Figures, name: str) -> set[str]:
    """What costs more than it may."""
    assert figures.keys() == BOUNDS[name].keys()
    return {what for what, most in BOUNDS[name].items() if figures[what] > most}


def check_cost(name: str, measure: Callable[[], Figures]) -> None:
    """Fail if one figure is above its bound in every try: a busy machine makes small batches."""
    best = measure()
    for _ in range(TRIES - 1):
        if not over(best, name):
            break
        best = {what: min(best[what], value) for what, value in measure().items()}
    print(name, best)
    assert not over(best, name), f"a job costs more than it may: {best}; bounds {BOUNDS[name]}"


def test_the_counter_counts_pieces_and_pipelines() -> None:
    counts = Counts()
    requests = Requests(counts)
    wire = b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nget\r\n$5\r\na\r\nbc\r\n"
    for n in range(len(wire)):
        requests.feed(wire[n : n + 1])
    requests.feed(wire * 3)
    assert counts.verbs == {"PING": 4, "GET": 4}
    assert counts.trips == 3
    assert counts.sent == 4 * len(wire)


@pytest.mark.parametrize("name", list(job.SCENES))
def test_a_job_costs_no_more_than_it_did(clean: TestServer, name: str) -> None:
    check_cost(name, lambda: job.counted(clean.socket, job.SCENES[name]))


def test_a_job_holds_no_more_memory_than_it_did(clean: TestServer) -> None:
    check_cost("memory", lambda: job.memory(clean.socket))


# The same counts, with something slow planted for each job.


def planted(server: TestServer, scene: Scene | None = None) -> set[str]:
    return over(job.counted(server.socket, scene or job.drain()), "drain")


def test_a_round_trip_a_job_is_found_out(
    clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiqpy._stages.settler._MAX_VERDICTS_PER_FRAME", 1)
    assert planted(clean) >= {"commands", "trips", "handles", "turns", "sent", "calls"}


def test_a_layer_around_a_job_is_found_out(clean: TestServer) -> None:
    async def layer(job: Any, call_next: Any) -> Any:
        return await call_next(job)

    assert planted(clean, job.drain(layer)) == {"calls"}


def test_a_handle_a_job_is_found_out(clean: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = consumer._task

    def with_callback(*args: Any) -> asyncio.Task[None]:
        task = start(*args)
        task.add_done_callback(id)
        return task

    monkeypatch.setattr(consumer, "_task", with_callback)
    assert planted(clean) >= {"handles"}


def test_a_longer_payload_is_found_out(clean: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "ARGS", ("string" * 6, *job.ARGS[1:]))
    assert over(job.counted(clean.socket, job.bulk), "bulk") == {"sent"}


def test_what_a_running_job_holds_is_found_out(clean: TestServer) -> None:
    async def holding(job: Any, call_next: Any) -> Any:
        held = bytes(1024)
        return await call_next(job) and held

    assert over(job.memory(clean.socket, holding), "memory") == {"running"}


def test_what_a_job_leaves_behind_is_found_out(clean: TestServer) -> None:
    ever: list[str] = []

    async def remembering(job: Any, call_next: Any) -> Any:
        ever.append(job.jid)
        return await call_next(job)

    assert over(job.memory(clean.socket, remembering), "memory") >= {"kept"}


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

"""Elements that no client should write, in a queue and in both sets, each with a good job behind.

None is lost, none stops the good one, and Ruby's pages still answer over what kiqpy made of them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from kiqpy._payload.json import encode
from tests.eventually import eventually
from tests.interop.hostile import A_JOB, NO_JOB, NOT_FOR_RUBY
from tests.interop.python_jobs import Jobs
from tests.interop.ruby import Ruby
from tests.interop.told import kiqpy, raw, size, told, wait_told
from tests.server import TestServer, until

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
PLACES = ("queue:default", "schedule", "retry")
BURIED = NO_JOB | NOT_FOR_RUBY
KINDS = BURIED | A_JOB
GOOD = {"class": "Echo", "args": ["good"], "queue": "default", "retry": True}


def put(server: TestServer, place: str, element: bytes, score: float = 1) -> None:
    if place.startswith("queue:"):
        server.cli("SADD", "queues", place.removeprefix("queue:"))
        server.cli("LPUSH", place, element)
    else:
        server.cli("ZADD", place, score, element)


def put_all(server: TestServer, place: str, elements: list[bytes]) -> None:
    """These, and a good one behind them."""
    for element in elements:
        put(server, place, element)
    put(server, place, encode(GOOD | {"jid": f"good in {place}"}), 2)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_none_is_lost_nor_stops_the_good_one_nor_takes_a_page_down(
    ruby: Ruby, clean: TestServer, kind: str, place: str
) -> None:
    put_all(clean, place, [KINDS[kind]])
    async with Jobs(redis_url=clean.url) as jobs:
        await eventually(lambda: told(clean, "python"), "the good one")
        await eventually(lambda: kept(clean) == 1, "the hostile one to be kept")
        for where in ("dead", "retry", "scheduled"):
            await jobs.admin.jobs(where)
    assert [job[1:] for job in told(clean, "python")] == [["good"]]
    assert kept(clean) == 1
    assert size(clean, "dead") == (kind in BURIED)
    assert ruby.ask("broken") == []


def kept(server: TestServer) -> int:
    """How many have not run: in the sets, or in a queue that nobody works on."""
    return sum(size(server, place) for place in ("dead", "retry", "schedule", "queue:a b"))


@pytest.mark.parametrize("kind", NO_JOB)
async def test_what_is_no_job_can_be_put_back_or_is_there_unchanged(
    ruby: Ruby, clean: TestServer, kind: str
) -> None:
    put(clean, "schedule", NO_JOB[kind])
    async with Jobs(redis_url=clean.url) as jobs:
        await eventually(lambda: size(clean, "dead") == 1, "the burial")
        await jobs.quiet()
        if raw(clean, "dead") == [NO_JOB[kind]]:
            return
        assert (await jobs.admin.requeue_all("dead")).done == 1
        assert raw(clean, "queue:default") == [NO_JOB[kind]]


async def test_all_at_once_and_then_rest(ruby: Ruby, clean: TestServer, tmp_path: Path) -> None:
    """A process that has dealt with all of them rests, and Ruby's poller loses none of the jobs."""
    for place in PLACES:
        put_all(clean, place, list(KINDS.values()))
    with kiqpy(clean, tmp_path) as worker:
        wait_told(clean, "python", len(PLACES))
        until(lambda: not any(size(clean, place) for place in ("queue:default", "schedule")), "all")
        until(lambda: cpu_share(worker.pid, 0.5) < 0.2, "a process that rests", 20)
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    assert ruby.ask("broken") == []
    for member in raw(clean, "retry"):
        clean.cli("ZADD", "retry", "XX", 1, member)
    before = size(clean, "retry")
    assert ruby.ask("promote") is None
    assert size(clean, "queue:default") == before
    assert before >= len(A_JOB)


def cpu_share(pid: int, within_s: float) -> float:
    """How much of the time a process computes."""
    before, began = cpu_s(pid), time.monotonic()
    threading.Event().wait(within_s)
    return (cpu_s(pid) - before) / (time.monotonic() - began)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""Cancels across processes: how soon a running job stops, and what a crash does to it."""

from __future__ import annotations

import json
import pathlib
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from kiqpy import App
from tests.crash.journal import everywhere, held, words
from tests.crash.test_kill import QUEUE, Yard
from tests.server import TestServer, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def yard(clean: TestServer, tmp_path: pathlib.Path) -> Iterator[Yard]:
    it = Yard(clean, tmp_path)
    yield it
    it.clear()


def push(server: TestServer, n: int, seconds: float) -> str:
    job = {"class": "labor", "args": [n, seconds], "queue": QUEUE, "jid": f"job-{n}"}
    server.cli("LPUSH", f"queue:{QUEUE}", json.dumps(job))
    server.cli("SADD", "queues", QUEUE)
    return f"job-{n}"


def dead(server: TestServer) -> list[str]:
    return [json.loads(raw)["jid"] for raw in words(server.cli("ZRANGE", "dead", 0, -1))]


async def test_a_job_in_another_process_stops_within_a_second(yard: Yard) -> None:
    """From the call of `cancel` until the job is in the dead set; the best of three."""
    process = yard.hire(proof=True)
    assert process.ident
    took: list[float] = []
    async with App(redis_url=yard.server.url).client_only() as jobs:
        for n in range(3):
            jid = push(yard.server, n, 60)
            until(lambda n=n: len(yard.oracle.lines("start")) == n + 1, "its start")
            began = time.monotonic()
            await jobs.cancel(jid)
            until(lambda jid=jid: jid in dead(yard.server), "its end")
            took.append(time.monotonic() - began)
    print("from cancel to dead:", ", ".join(f"{s:.2f} s" for s in took))
    assert min(took) < 1
    assert max(took) < 2
    assert yard.oracle.lines("end") == []
    process.finish()


async def test_a_process_that_is_killed_before_it_hears_of_the_cancel(yard: Yard) -> None:
    """Whoever takes the job over knows that it was cancelled, and does not start it."""
    first = yard.hire(proof=True, suspicion=1.0)
    assert first.ident
    jid = push(yard.server, 1, 60)
    until(lambda: len(yard.oracle.lines("start")) == 1, "its start")
    first.stopped()
    async with App(redis_url=yard.server.url).client_only() as jobs:
        await jobs.cancel(jid)
    first.kill()
    second = yard.hire(proof=True, suspicion=1.0)
    assert second.ident
    until(lambda: dead(yard.server) == [jid], "its end", 60)
    assert len(yard.oracle.lines("start")) == 1
    second.finish()
    assert everywhere(yard.server, [QUEUE]) == {jid: 1}
    assert held(yard.server) == {}


async def test_cancels_and_kills_at_random_lose_no_other_job(yard: Yard) -> None:
    """Every third job is cancelled while processes die: the others run, the cancelled end dead."""
    total, process = 150, yard.hire(proof=True, suspicion=1.0)
    assert process.ident
    async with App(redis_url=yard.server.url).client_only() as jobs:
        for n in range(total):
            push(yard.server, n, 5.0 if n % 3 == 0 else 0.02)
            if n % 3 == 0:
                await jobs.cancel(f"job-{n}")
            if n % 50 == 49:
                process.kill()
                process = yard.hire(proof=True, suspicion=1.0)
                assert process.ident
        for n in range(0, total, 3):  # once more: to cancel twice is to cancel
            await jobs.cancel(f"job-{n}")
        until(
            lambda: not everywhere(yard.server, [QUEUE]) - Counter(dead(yard.server)),
            "the rest",
            90,
        )
    ended = {int(words[0]) for words in yard.oracle.lines("end")}
    assert {n for n in range(total) if n % 3} <= ended
    assert sorted(dead(yard.server)) == sorted(f"job-{n}" for n in range(0, total, 3))
    assert not ended & set(range(0, total, 3))
    process.finish()

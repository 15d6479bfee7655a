"""Unique jobs when processes die, are stopped, race, or lose replies.

The invariant: of one token at most one job waits or runs before its lock's time is over; the lock
is its job's alone, and gone when that has ended.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from kiqpy import App
from kiqpy.receipt import Receipt
from tests.crash.journal import Oracle, environment, everywhere, held, number, queued, words
from tests.crash.unique_process import Loners, lone, opener
from tests.eventually import eventually
from tests.server import TestServer, until

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
SCRIPT = pathlib.Path(__file__).with_name("unique_process.py")


class Den:
    """A server, an oracle, and the processes of one test."""

    def __init__(self, server: TestServer, tmp: pathlib.Path) -> None:
        self.server, self.oracle, self._tmp = server, Oracle(tmp / "oracle"), tmp
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self, what: str, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, SCRIPT, what, self.server.url, self.oracle.path, *more]
        child = subprocess.Popen(command, env=environment(TMPDIR=str(self._tmp)))
        self._children.append(child)
        return child

    def hire(self, **options: Any) -> subprocess.Popen[bytes]:
        """A worker process that has started."""
        given = {"lease_ttl": 30.0, "suspicion": 0.5} | options
        child = self.run("works", *(f"{name}={json.dumps(v)}" for name, v in given.items()))
        until(lambda: [str(child.pid)] in self.oracle.lines("up"), "a process to start", 30)
        return child

    def go(self) -> None:
        """Let jobs end, and rushes begin."""
        pathlib.Path(f"{self.oracle.path}.go").touch()

    def started(self, jid: str, times: int = 1) -> bool:
        return self.oracle.count("start")[jid] == times

    def quiet(self) -> bool:
        return not queued(self.server, "lone") and not held(self.server)

    def locks(self) -> dict[str, str]:
        """Token -> holder; each runs out some day."""
        keys = words(self.server.cli("KEYS", "unique:*"))
        assert all(number(self.server.cli("PTTL", key)) != -1 for key in keys)
        return {key: str(self.server.cli("GET", key)) for key in keys}

    def left_s(self) -> float:
        (key,) = words(self.server.cli("KEYS", "unique:*"))
        return number(self.server.cli("PTTL", key)) / 1000

    def finish(self, *children: subprocess.Popen[bytes]) -> None:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            assert child.wait(30) == 0

    def clear(self) -> None:
        for child in self._children:
            if child.poll() is None:
                with suppress(ProcessLookupError):
                    child.send_signal(signal.SIGCONT)
                child.kill()
                child.wait(10)


@pytest.fixture
def den(clean: TestServer, tmp_path: pathlib.Path) -> Iterator[Den]:
    den = Den(clean, tmp_path)
    yield den
    den.clear()


@pytest.fixture
async def shop(den: Den, anyio_backend: object) -> AsyncIterator[App]:
    async with Loners(redis_url=den.server.url).client_only() as app:
        yield app


async def test_the_holder_is_killed_while_it_runs(den: Den, shop: App) -> None:
    """It runs again; all the while its lock keeps others out; at its end the lock is gone."""
    victim = den.hire()
    first = await shop.enqueue(lone.new(1))
    await eventually(lambda: den.started(first.jid), "the victim to run it")
    other = den.hire()
    (lock,) = den.locks()
    den.server.cli("PEXPIRE", lock, 20_000)  # as if it had run for 10 s
    victim.kill()
    victim.wait(10)
    tried: list[Receipt] = []

    async def again() -> bool:
        tried.append(await shop.enqueue(lone.new(1)))
        return den.started(first.jid, 2)

    await eventually(again, "the other process to run it")
    assert set(tried) == {Receipt(first.jid, "duplicate")}
    assert den.left_s() > 25, "its time began anew when it was recovered"
    den.go()
    until(den.quiet, "its end")
    until(lambda: not den.locks(), "the lock to be free")
    assert den.oracle.count("recovered") == Counter({first.jid: 1})
    assert (await shop.enqueue(lone.new(1))).state == "queued"
    until(lambda: len(den.oracle.lines("end")) == 2, "the next one's end")
    den.finish(other)


async def test_fifty_at_once_from_four_processes(den: Den) -> None:
    children = [den.run("rush", str(n)) for n in (13, 13, 12, 12)]
    until(lambda: len(den.oracle.lines("up")) == 4, "four processes to start", 30)
    den.go()
    for child in children:
        assert child.wait(30) == 0
    receipts = Counter(tuple(line) for line in den.oracle.lines("receipt"))
    (winner,) = [jid for state, jid in receipts if state == "queued"]
    assert receipts == Counter({("queued", winner): 1, ("duplicate", winner): 49})
    assert everywhere(den.server, ["lone"]) == Counter({winner: 1})
    assert list(den.locks().values()) == [winner]


async def test_a_lock_that_is_shorter_than_the_retrys_delay(den: Den, shop: App) -> None:
    """It would have run out while the retry waits, and a second job would have come beside it."""
    den.go()
    worker = den.hire()
    short = lone.using(unique_for=0.7, backoff="queuetopia")
    first = await shop.enqueue(short.new(1, True))
    await eventually(lambda: number(den.server.cli("ZCARD", "retry")) == 1, "the retry")
    assert 1.0 < den.left_s() <= 2.7
    tried: list[Receipt] = []

    async def again() -> bool:
        if den.started(first.jid, 2):
            return True
        if number(den.server.cli("ZCARD", "retry")) == 1:
            tried.append(await shop.enqueue(short.new(1, True)))
        return False

    await eventually(again, "the second try")
    assert set(tried[:-1]) == {Receipt(first.jid, "duplicate")}
    until(den.quiet, "its end")
    assert den.oracle.count("start")[first.jid] == 2
    den.finish(worker)


async def test_one_that_is_recovered_does_not_free_the_next_ones_lock(den: Den, shop: App) -> None:
    """`start`: the first runs again after a crash, and does not free the lock of the second."""
    victim = den.hire()
    first = await shop.enqueue(opener.new(1))
    await eventually(lambda: den.started(first.jid), "the victim to run it")
    assert den.locks() == {}
    second = await shop.enqueue(opener.new(1), in_=600)
    assert second.state == "scheduled"
    victim.kill()
    victim.wait(10)
    other = den.hire()
    until(lambda: den.started(first.jid, 2), "the other process to run it", 30)
    assert list(den.locks().values()) == [second.jid]
    den.go()
    until(den.quiet, "its end")
    assert list(den.locks().values()) == [second.jid]
    den.finish(other)


async def test_a_stopped_holder_frees_nothing_when_it_goes_on(den: Den, shop: App) -> None:
    """Its job was taken over and has ended; the lock is another job's by then."""
    options = {"lease_ttl": 1.5, "suspicion": 0.5}
    victim = den.hire(**options)
    first = await shop.enqueue(lone.new(1))
    await eventually(lambda: den.started(first.jid), "the victim to run it")
    victim.send_signal(signal.SIGSTOP)
    other = den.hire(**options)
    until(lambda: den.started(first.jid, 2), "the other process to run it", 30)
    den.go()
    until(lambda: not den.locks(), "its end there")
    second = await shop.enqueue(lone.new(1), in_=600)
    assert second.state == "scheduled"
    victim.send_signal(signal.SIGCONT)
    until(lambda: den.oracle.lines("fenced"), "the victim's result to come too late", 30)
    assert den.oracle.count("fenced") == Counter({first.jid: 1})
    assert list(den.locks().values()) == [second.jid]
    den.finish(victim, other)


@pytest.mark.parametrize("rude", [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")])
async def test_a_rude_server(den: Den, shop: App, rude: tuple[str, ...]) -> None:
    """Ten tokens, enqueued again and again: never two of one at a time, and no lock is left."""
    den.go()
    children = [den.hire(), den.hire()]
    states: Counter[str] = Counter()
    for n in range(200):
        if n % 10 == 0:
            with suppress(Exception):
                den.server.cli(*rude)
        receipt = await shop.enqueue(lone.new(n % 10))
        states[receipt.state] += 1
    until(den.quiet, "all to be done", 30)
    until(lambda: not den.locks(), "all locks to be free")
    assert states["queued"] + states["duplicate"] == 200
    ends = den.oracle.count("end")
    assert sum(ends.values()) == states["queued"]
    assert set(ends.values()) == {1}
    den.finish(*children)

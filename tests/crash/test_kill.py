"""Processes that are killed or stopped for too long, and jobs that kill their process.

The invariant: a job that was pushed is finished, by the oracle's account, which is no part of
Redis; a job is started once more exactly for each time its process died with it, and that is
reported; what a process does after its jobs were taken over changes nothing.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.crash.journal import Oracle, environment, everywhere, held, number, queued, words
from tests.server import TestServer, until

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).with_name("worker_process.py")
QUEUE = "kill"


class Process:
    """One worker process and its ident."""

    def __init__(self, server: TestServer, oracle: Oracle, tmp: pathlib.Path, **options: Any):
        tmp.mkdir(exist_ok=True)
        command = [sys.executable, SCRIPT, server.url, oracle.path]
        command += [f"{name}={json.dumps(value)}" for name, value in options.items()]
        self._child = subprocess.Popen(command, env=environment(TMPDIR=str(tmp)))
        self._oracle, self._server, self._ident = oracle, server, ""

    @property
    def ident(self) -> str:
        if not self._ident:
            until(self._up, "a worker process to start", 30)
        return self._ident

    def _up(self) -> bool:
        assert self._child.poll() is None, "the worker process has ended"
        mine = [ident for ident, pid in self._oracle.lines("up") if pid == str(self._child.pid)]
        self._ident = mine[0] if mine else ""
        return bool(mine)

    def in_flight(self) -> dict[str, str]:
        """What its private hash holds: delivery -> payload."""
        flat = words(self._server.cli("HGETALL", f"kiq:private|{self.ident}|{QUEUE}"))
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def boxed(self) -> int:
        return number(self._server.cli("LLEN", f"kiq:inbox|{self.ident}|{QUEUE}"))

    def waits(self) -> bool:
        """Whether one of its connections blocks in BLMOVE."""
        clients = str(self._server.cli("CLIENT", "LIST")).splitlines()
        blocked = [line for line in clients if " flags=b " in line and "cmd=blmove" in line]
        return len(blocked) >= 1

    def send(self, what: signal.Signals) -> None:
        self._child.send_signal(what)

    def stopped(self) -> None:
        """SIGSTOP, and return when it stands."""
        self.send(signal.SIGSTOP)
        path = f"/proc/{self._child.pid}/stat"
        until(lambda: pathlib.Path(path).read_text().rsplit(")", 1)[1].split()[0] == "T", "a stop")

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._child.wait(10)

    def dead(self) -> bool:
        return self._child.poll() is not None

    def finish(self) -> None:
        """SIGTERM: a clean end, or the test fails."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
        _ = self.ident  # while it starts, SIGTERM still kills it: its handler is not there yet
        self.send(signal.SIGTERM)
        assert self._child.wait(30) == 0

    def clear(self) -> None:
        if self._child.poll() is None:
            self.send(signal.SIGCONT)
            self.kill()


def blocked(server: TestServer) -> int:
    info = dict(x.split(":", 1) for x in str(server.cli("INFO", "clients")).split() if ":" in x)
    return int(info["blocked_clients"])


class Yard:
    """A server, an oracle, and the processes of one test."""

    def __init__(self, server: TestServer, tmp: pathlib.Path) -> None:
        self.server, self.oracle = server, Oracle(tmp / "oracle")
        self._tmp, self._processes, self._pushed = tmp, list[Process](), 0

    def hire(self, *, proof: bool, **options: Any) -> Process:
        """Start a process. Without proof each has a lock folder of its own, as on other hosts."""
        folder = "t" if proof else f"t{len(self._processes)}"
        process = Process(self.server, self.oracle, self._tmp / folder, **options)
        self._processes.append(process)
        return process

    def push(self, count: int, seconds: float, name: str = "labor") -> list[int]:
        """As another client would: raw JSON, LPUSH."""
        numbers = list(range(self._pushed, self._pushed + count))
        self._pushed += count
        self.server.cli("SADD", "queues", QUEUE)
        jobs = [self._job(n, name, [n] if name == "poison" else [n, seconds]) for n in numbers]
        if jobs:
            self.server.cli("LPUSH", f"queue:{QUEUE}", *jobs)
        return numbers

    def _job(self, n: int, name: str, args: list[float]) -> str:
        job = {"class": name, "args": args, "queue": QUEUE, "jid": f"j{n}", "retry": False}
        return json.dumps(job | {"created_at": time.time(), "enqueued_at": time.time()})

    def quiet(self) -> bool:
        return not queued(self.server, QUEUE) and not held(self.server)

    def clear(self) -> None:
        for process in self._processes:
            process.clear()

    def lost(self) -> set[int]:
        ended = self.oracle.count("end")
        return {n for n in range(self._pushed) if not ended[str(n)]}


@pytest.fixture
def yard(clean: TestServer, tmp_path: pathlib.Path) -> Iterator[Yard]:
    yard = Yard(clean, tmp_path)
    yield yard
    yard.clear()


@pytest.mark.parametrize(("proof", "kills"), [(True, 20), (False, 6)])
def test_kill_one_of_two_again_and_again(yard: Yard, proof: bool, kills: int) -> None:
    """250 jobs a kill, of which 25 are in flight in the victim and one sits in its inbox.

    0 lost; each job in flight is reported as recovered once, and started once more.
    """
    options = {"lease_ttl": 30.0 if proof else 1.5, "suspicion": 0.5}
    server, oracle = yard.server, yard.oracle
    victim, other = (yard.hire(proof=proof, **options) for _ in range(2))
    struck: Counter[str] = Counter()
    boxed = 0
    for _ in range(kills):
        yard.push(223, 0.01)
        _ = victim.ident, other.ident
        until(lambda: yard.quiet() and blocked(server) == 2, "both to wait for work", 30)
        other.stopped()
        yard.push(25, 0.8)
        until(lambda v=victim: len(v.in_flight()) >= 24 and blocked(server) == 1, "the victim")
        victim.stopped()
        yard.push(2, 0.01)
        in_flight, inbox = victim.in_flight(), victim.boxed()
        assert len(in_flight) >= 20
        boxed += inbox
        victim.kill()
        struck.update(str(json.loads(payload)["jid"]) for payload in in_flight.values())
        other.send(signal.SIGCONT)
        victim, other = other, yard.hire(proof=proof, **options)
    until(yard.quiet, "all jobs to be done", 60)
    assert boxed == kills, "each kill was to strike a job in an inbox"
    victim.finish()
    other.finish()

    assert not yard.lost()
    assert not oracle.lines("lapsed"), "a starved process: this run says nothing"
    reported = Counter(jid for jid, _, _ in oracle.lines("recovered"))
    assert reported == struck, "recoveries reported, and what was in flight at the kills"
    starts = oracle.count("start")
    assert starts == Counter({str(n): 1 + struck[f"j{n}"] for n in range(250 * kills)})
    last = {n: int(recovered) for n, _, recovered in oracle.lines("start")}
    assert last == {n: struck[f"j{n}"] for n in starts}, "the payload knows how often"
    assert not everywhere(server, [QUEUE])


def test_proof_of_death_is_faster_than_the_lease(yard: Yard) -> None:
    """On one host a dead process's jobs run again at once, though its lease is good for 30 s."""
    options = {"lease_ttl": 30.0, "suspicion": 1.0}
    victim = yard.hire(proof=True, **options)
    _ = victim.ident
    yard.push(20, 0.5)
    until(lambda: len(victim.in_flight()) == 20, "the victim to take them")
    victim.kill()
    began = time.monotonic()
    yard.hire(proof=True, **options)
    until(lambda: not yard.lost() and yard.quiet(), "the jobs to be run by the heir", 10)
    assert time.monotonic() - began < 10


def test_stopped_past_its_lease(yard: Yard) -> None:
    """SIGSTOP, long enough to be given up; then it goes on: its late settles are fenced.

    Its inbox is not stranded, no job is lost, and what it claims afterwards counts again.
    """
    options = {"lease_ttl": 1.0, "suspicion": 0.5}
    sleeper = yard.hire(proof=True, **options)  # its lock is held all the time: no proof of death
    _ = sleeper.ident
    late = yard.push(22, 1.0)
    until(lambda: len(sleeper.in_flight()) == 22 and blocked(yard.server) == 1, "it to take them")
    sleeper.stopped()
    boxed = yard.push(1, 0.01)
    assert sleeper.boxed() == 1
    yard.hire(proof=True, **options)
    until(lambda: not yard.lost() and yard.quiet(), "the other one to do it all", 20)
    assert yard.oracle.count("recovered") == Counter(f"j{n}" for n in late)
    sleeper.send(signal.SIGCONT)
    until(lambda: len(yard.oracle.lines("fenced")) == 22, "its late results to be fenced")
    assert yard.oracle.count("fenced") == Counter(map(str, late))
    # It may have been asked for a job in its sleep again; that, too, comes out.
    before = len(yard.oracle.lines("end"))
    yard.push(200, 0.01)
    until(lambda: not yard.lost() and yard.quiet(), "both to go on", 20)
    assert len(yard.oracle.lines("end")) >= before + 200
    assert yard.oracle.count("start")[str(boxed[0])] == 1
    assert not everywhere(yard.server, [QUEUE])


def test_a_job_that_kills_its_process_ends_dead_and_takes_nobody_with_it(yard: Yard) -> None:
    """More than three recoveries: the dead set, with the reason. The others are all done,

    although as many as there are slots began together with it, and died together with it.
    """
    options = {"lease_ttl": 30.0, "suspicion": 0.5, "queues": {QUEUE: 6}}
    yard.push(3, 0.3)
    [bad] = yard.push(1, 0, "poison")
    yard.push(20, 0.3)
    processes = [yard.hire(proof=True, **options)]

    def done() -> bool:
        if processes[-1].dead():
            processes.append(yard.hire(proof=True, **options))
        return yard.lost() == {bad} and yard.quiet()

    until(done, "all but the bad one to be done", 40)
    assert len(processes) == 5, "four deaths, and the one who lives"
    [buried] = words(yard.server.cli("ZRANGE", "dead", 0, -1))
    job = json.loads(buried)
    assert (job["jid"], job["recovered"], job["error_class"]) == (f"j{bad}", 4, "kiqpy.Poison")
    assert "died 4 times" in job["error_message"]
    assert yard.oracle.count("start")[str(bad)] == 4
    assert [f"j{bad}", "4", "1"] in yard.oracle.lines("recovered")
    processes[-1].finish()
    assert set(everywhere(yard.server, [QUEUE])) == {f"j{bad}"}

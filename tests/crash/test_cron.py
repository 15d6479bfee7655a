"""Periodic jobs of five processes: leaders are killed, stopped and resumed; downtime.

The oracle has seen each job that ran, and which tick it was for.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.crash.journal import Oracle, environment, held, queued, words
from tests.server import TestServer, until

pytestmark = pytest.mark.slow
SCRIPT = pathlib.Path(__file__).with_name("periodic_process.py")
ALL = {"every": {"misfire": "all"}}


class Cluster:
    """Processes that declare the same periodics."""

    def __init__(self, server: TestServer, tmp: pathlib.Path, entries: dict[str, Any]) -> None:
        self.server, self.oracle = server, Oracle(tmp / "oracle")
        self._entries, self._tmp = json.dumps(entries), tmp
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def hire(self, count: int) -> None:
        before = len(self.oracle.lines("up"))
        for _ in range(count):
            child = subprocess.Popen(
                [sys.executable, SCRIPT, self.server.url, self.oracle.path, self._entries],
                env=environment(TMPDIR=str(self._tmp)),
            )
            self.children[child.pid] = child
        until(lambda: len(self.oracle.lines("up")) == before + count, "processes to start", 60)

    def elections(self) -> list[int]:
        """Who became the leader, in order."""
        return [int(pid) for [pid] in self.oracle.lines("leads")]

    def leader(self, after: int = 0) -> int:
        """Who was elected last, once there were more than so many elections."""
        until(lambda: len(self.elections()) > after, "an election", 30)
        return self.elections()[-1]

    def ticks(self, name: str = "every") -> list[int]:
        return [int(second) for entry, second, _ in self.oracle.lines("tick") if entry == name]

    def more_ticks(self, count: int, name: str = "every") -> None:
        latest = max(self.ticks(name), default=0)
        until(lambda: len({t for t in self.ticks(name) if t > latest}) >= count, "ticks", 60)

    def kill(self, *pids: int) -> None:
        for pid in pids:
            child = self.children.pop(pid)
            child.kill()
            child.wait(10)

    def clear(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGCONT)
        self.kill(*self.children)

    def settled(self) -> bool:
        return not queued(self.server, "default") and not held(self.server)


@pytest.fixture
def cluster(clean: TestServer, tmp_path: pathlib.Path, request: Any) -> Iterator[Cluster]:
    made = Cluster(clean, tmp_path, getattr(request, "param", ALL))
    yield made
    made.clear()


def enqueued_once(cluster: Cluster, name: str = "every") -> None:
    """Each second from the first to the latest has one job, which may have run more than once."""
    latest = max(cluster.ticks(name))
    until(cluster.settled, "its job, and all before it, to be done", 30)
    lines = cluster.oracle.lines("tick")
    jids = {(int(second), jid) for entry, second, jid in lines if entry == name}
    per_second = Counter(second for second, _ in jids)
    assert set(per_second.values()) == {1}, "a tick was enqueued twice"
    missing = [t for t in range(min(per_second), latest + 1) if t not in per_second]
    assert not missing, "ticks are missing"


def test_the_leader_of_five_is_killed_three_times(cluster: Cluster) -> None:
    cluster.hire(5)
    for n in range(3):
        leader = cluster.leader(after=n)
        cluster.more_ticks(3)
        cluster.kill(leader)
    assert cluster.leader(after=3) in cluster.children
    cluster.more_ticks(4)
    enqueued_once(cluster)
    assert len(cluster.elections()) >= 4
    assert max(cluster.ticks()) - min(cluster.ticks()) >= 12


def test_a_leader_that_was_stopped_goes_on_beside_the_next(cluster: Cluster) -> None:
    """SIGSTOP for longer than its term: another one leads; then both believe for a moment."""
    cluster.hire(3)
    for n in range(2):
        leader = cluster.leader(after=n)
        cluster.more_ticks(2)
        os.kill(leader, signal.SIGSTOP)
        assert cluster.leader(after=n + 1) != leader
        cluster.more_ticks(2)
        os.kill(leader, signal.SIGCONT)
        cluster.more_ticks(2)
    enqueued_once(cluster)


POLICIES = {
    "all": {"misfire": "all"}, "one": {"misfire": "one"}, "skip": {"misfire": "skip"},
    "short": {"misfire": "one", "misfire_grace": 1}, "some": {"misfire": "all", "misfire_grace": 4},
}  # fmt: skip


@pytest.mark.parametrize("cluster", [POLICIES], indirect=True)
def test_nobody_is_there_for_eight_ticks(cluster: Cluster) -> None:
    cluster.hire(2)
    cluster.more_ticks(2, "all")
    cluster.kill(*cluster.children)
    died = now(cluster.server)
    until(lambda: now(cluster.server) >= died + 8, "eight seconds to pass", 20)
    cluster.hire(2)
    back = now(cluster.server)
    for name in POLICIES:
        until(lambda name=name: max(cluster.ticks(name)) > back + 2, f"{name} to go on", 30)
    until(cluster.settled, "all jobs to be done", 30)

    enqueued_once(cluster, "all")
    away = range(died + 1, died + 8)  # nobody was there in any of these seconds
    found = {name: sorted(set(cluster.ticks(name)) & set(away)) for name in POLICIES}
    assert found.pop("all") == list(away)
    within_4_s = found.pop("some")
    assert within_4_s == [tick for tick in away if tick >= min(within_4_s, default=died + 8)]
    assert all(tick > died + 4 for tick in within_4_s), "somebody was there again at died + 8"
    assert found == {name: [] for name in ("one", "skip", "short")}, "only the latest counts"
    for name in POLICIES:
        jids = {(tick, jid) for entry, tick, jid in cluster.oracle.lines("tick") if entry == name}
        assert len(jids) == len({tick for tick, _ in jids}), "a tick was enqueued twice"


def now(server: TestServer) -> int:
    return int(words(server.cli("TIME"))[0])

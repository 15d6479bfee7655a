"""Lanes under `kill -9`: in order, without overlaps, and nothing lost.

The oracle is one file that all processes append to, so its lines are in the order of time.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kiqpy import App, BlockingQueues
from tests.crash.journal import Oracle, environment
from tests.crash.lane_process import deliver
from tests.server import TestServer, until

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

SCRIPT = pathlib.Path(__file__).with_name("lane_process.py")
LANES, EACH, KILLS, PROCESSES = 40, 8, 6, 3


class Crew:
    """Processes that are killed and replaced."""

    def __init__(self, server: TestServer, tmp: pathlib.Path) -> None:
        self._command = [sys.executable, str(SCRIPT), server.url, str(tmp / "oracle")]
        self._environment = environment(TMPDIR=str(tmp))
        self.oracle = Oracle(tmp / "oracle")
        self.living: list[subprocess.Popen[bytes]] = []

    def hire(self) -> None:
        self.living.append(subprocess.Popen(self._command, env=self._environment))

    def kill(self) -> None:
        """One of them, and another takes its place."""
        victim = self.living.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(10)
        self.hire()

    def ended(self) -> set[tuple[str, int]]:
        return {(lane, int(n)) for lane, n, _ in self.oracle.lines("end")}

    def clear(self) -> None:
        for process in self.living:
            process.kill()
            process.wait(10)


@pytest.fixture
def crew(clean: TestServer, tmp_path: pathlib.Path) -> Iterator[Crew]:
    made = Crew(clean, tmp_path)
    yield made
    made.clear()
    clean.cli("FLUSHALL")


async def test_killed_processes_keep_the_order_of_each_lane(crew: Crew, clean: TestServer) -> None:
    jobs = App(redis_url=clean.url, queues=[BlockingQueues("lanes")], workers=[deliver])
    wanted = [(f"lane{lane}", n) for n in range(EACH) for lane in range(LANES)]
    async with jobs.client_only():
        await jobs.enqueue_many(
            [deliver.using(lane=lane).new(lane, n) for lane, n in wanted], atomic=False
        )
    for _ in range(PROCESSES):
        crew.hire()
    for kill in range(1, KILLS + 1):
        share = len(wanted) * kill // (KILLS + 2)
        until(lambda share=share: len(crew.ended()) >= share, f"{share} ends", 120)  # type: ignore[misc]
        crew.kill()
        random.shuffle(crew.living)
    until(lambda: len(crew.ended()) == len(wanted), "all of them", 120)
    for lane in range(LANES):
        check_lane(crew.oracle, f"lane{lane}")
    until(lambda: clean.cli("EXISTS", "kiq:heads|lanes") == 0, "the lanes are forgotten", 30)


def check_lane(oracle: Oracle, lane: str) -> None:
    """No job starts before those before it have ended; one that starts again was not settled."""
    at, has_ended = 0, False
    for word, *words in (line.split() for line in oracle.path.read_text().splitlines()):
        if word == "up" or words[0] != lane:
            continue
        n = int(words[1])
        if word == "start" and n != at:
            assert n == at + 1, f"{lane}: {n} starts after {at}"
            assert has_ended, f"{lane}: {n} starts before {at} has ended"
            at, has_ended = n, False
        assert n == at, f"{lane}: {word} {n} while it is the turn of {at}"
        has_ended = has_ended or word == "end"
    assert (at, has_ended) == (EACH - 1, True)

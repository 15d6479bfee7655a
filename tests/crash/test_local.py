"""Local jobs of processes that are killed, or stopped until others have taken their jobs.

The invariant: a job that was confirmed ends, by the oracle's account; and what had not begun when
its process was given up begins in one process only.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.crash.journal import Oracle, environment, held
from tests.server import TestServer, until

pytestmark = pytest.mark.slow
SCRIPT = pathlib.Path(__file__).with_name("local_process.py")
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def oracle(tmp_path: pathlib.Path) -> Oracle:
    return Oracle(tmp_path / "oracle")


@pytest.fixture
def start(clean: TestServer, oracle: Oracle) -> Iterator[Start]:
    children: list[subprocess.Popen[bytes]] = []

    def launch(jobs: int, *narrow: str) -> subprocess.Popen[bytes]:
        before = len(oracle.lines("up"))
        command = [sys.executable, str(SCRIPT), clean.url, str(oracle.path), str(jobs), *narrow]
        children.append(subprocess.Popen(command, env=environment()))
        until(lambda: len(oracle.lines("up")) > before, "a process to start", 60)
        return children[-1]

    yield launch
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait(10)


def ended(oracle: Oracle, jobs: int) -> Callable[[], bool]:
    return lambda: len(oracle.count("end")) == jobs


def test_the_jobs_of_a_killed_process_run_elsewhere(
    clean: TestServer, oracle: Oracle, start: Start
) -> None:
    """Under the same jid, and those that had failed with their count."""
    doomed = start(20, "narrow")
    until(lambda: held(clean), "backups")
    jids = {int(n): jid for n, jid in oracle.lines("kept")}
    doomed.kill()
    doomed.wait(10)
    [key] = held(clean)
    found = clean.cli("HVALS", key)
    assert isinstance(found, list)
    assert {json.loads(str(raw))["jid"] for raw in found} == set(jids.values())
    start(0)
    until(ended(oracle, 20), "all jobs to end", 60)
    again = {n: retries for n, _, retries in oracle.lines("begin") if retries != "-1"}
    assert again == {str(n): "0" for n in range(20) if n % 5 == 1}
    assert max(oracle.count("end").values()) == 1
    until(lambda: not held(clean), "all to be settled")


def test_who_was_given_up_begins_nothing_that_others_have(
    clean: TestServer, oracle: Oracle, start: Start
) -> None:
    """It stands still until its lease has run out and its jobs have gone; then it goes on."""
    stopped = start(20, "narrow")
    stopped.send_signal(signal.SIGSTOP)
    other = start(0)
    until(ended(oracle, 20), "all jobs to end elsewhere", 60)
    stopped.send_signal(signal.SIGCONT)
    until(lambda: clean.cli("SCARD", "processes") == 2, "it to be back", 30)
    late = start(1)  # beside them, all of the three go on
    until(lambda: oracle.count("end")["0"] == 2, "the job of the third", 30)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(30) == 0
    mine = {n for n, pid, _ in oracle.lines("begin") if pid == str(stopped.pid)}
    assert mine == {"0"}, "it has begun what ran elsewhere"
    begun = [n for n, _, retries in oracle.lines("begin") if retries == "-1"]
    assert {n: begun.count(n) for n in begun if begun.count(n) > 1} == {"0": 3}
    assert {other.poll(), late.poll()} == {None}
    until(lambda: not held(clean), "all to be settled")

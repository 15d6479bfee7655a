"""`kiqpy run` with a job that blocks the event loop for good: the process ends all the same."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.process import Kiqpy
from tests.server import TestServer, until

pytestmark = pytest.mark.slow

SHOP = """
import pathlib
from kiqpy import App, worker

@worker
async def blocks(name: str) -> None:
    pathlib.Path(__file__).with_name(name + ".began").touch()
    while True:
        pass

class Jobs(App):
    workers = [blocks]
    shutdown_timeout = 1
    heartbeat_interval = 0.5
    lease_ttl = 5
    stuck_after = {stuck_after}
"""


def blocked(folder: Path, server: TestServer, stuck_after: float | None) -> Kiqpy:
    (folder / "shop.py").write_text(SHOP.format(stuck_after=stuck_after))
    worker = Kiqpy(folder, "run", "shop", "--redis", server.url)
    worker.says("ctrl-c to stop")
    payload = {"class": "blocks", "args": ["a"], "queue": "default", "jid": "a", "retry": True}
    server.cli("LPUSH", "queue:default", json.dumps(payload))
    until((folder / "a.began").exists, "the start of the job", 30)
    return worker


def ended(worker: Kiqpy, server: TestServer) -> None:
    assert worker.ends(60) == 70
    assert "in blocks" in worker.err, "the stack of the job"
    server.cli("FLUSHALL")  # its lease and its job, which others would rescue


def test_it_ends_when_its_jobs_are_given_up(tmp_path: Path, clean: TestServer) -> None:
    """The lease was given up, and the process stayed for ever."""
    with blocked(tmp_path, clean, 2) as worker:
        ended(worker, clean)
        assert "the event loop has not turned for 2 s" in worker.err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_term_and_int_end_it(tmp_path: Path, clean: TestServer, name: str) -> None:
    """Only -9 ended it."""
    with blocked(tmp_path, clean, None) as worker:
        worker.send(signal.Signals[name])
        ended(worker, clean)
        assert "told to stop, but the event loop has not turned for 6 s" in worker.err


def test_two_terms_at_once_are_one(tmp_path: Path, clean: TestServer) -> None:
    """systemd and a supervisor tell a process and its group: that counted as `now`."""
    (tmp_path / "shop.py").write_text(
        "import kiqpy\nclass Jobs(kiqpy.App):\n    shutdown_timeout = 500\n"
    )
    with Kiqpy(tmp_path, "run", "shop", "--redis", clean.url) as worker:
        worker.says("ctrl-c to stop")
        worker.send(signal.SIGTERM)
        os.killpg(worker.pid, signal.SIGTERM)
        assert worker.ends() == 0
        assert worker.err.count("stopping: running jobs get 500 s") == 1
        assert "stopping now" not in worker.err

"""What Ruby's API tells a kiqpy process to do, and that it does it at its next heartbeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.ruby import Ruby
from tests.interop.told import kiqpy, size, wait_told
from tests.server import TestServer, until

pytestmark = pytest.mark.interop
ONE_BEAT_S = 2.0  # python_jobs beats each 0.2 s; the rest is for a busy machine


def identity(ruby: Ruby) -> str:
    [process] = ruby.ask("processes")
    return str(process["identity"])


def is_quiet(ruby: Ruby) -> bool:
    [process] = ruby.ask("processes")
    return bool(process["stopping"])


def test_quiet_and_stop(ruby: Ruby, clean: TestServer, tmp_path: Path) -> None:
    with kiqpy(clean, tmp_path) as worker:
        worker.says("ctrl-c")
        assert not is_quiet(ruby)
        assert ruby.ask("signal", identity(ruby), "quiet!")
        until(lambda: is_quiet(ruby), "the quiet to be seen by Ruby", ONE_BEAT_S)
        ruby.ask("push", {"class": "Echo", "args": [1]})
        assert ruby.ask("signal", identity(ruby), "stop!")
        assert worker.ends(10) == 0
    assert size(clean, "test:python") == 0
    assert size(clean, "queue:default") == 1
    assert ruby.ask("processes") == []


def test_a_quiet_can_be_ended_from_afar(ruby: Ruby, clean: TestServer, tmp_path: Path) -> None:
    """CONT: Sidekiq has no such order, and a Ruby process that gets it goes on as it was."""
    with kiqpy(clean, tmp_path) as worker:
        worker.says("ctrl-c")
        who = identity(ruby)
        ruby.ask("signal", who, "quiet!")
        until(lambda: is_quiet(ruby), "the quiet", ONE_BEAT_S)
        jid = ruby.ask("push", {"class": "Echo", "args": [1]})
        clean.cli("LPUSH", f"{who}-signals", "CONT")
        assert wait_told(clean, "python", 1) == [[jid, 1]]
        until(lambda: not is_quiet(ruby), "the end of the quiet to be seen", ONE_BEAT_S)


def test_threads_are_dumped(ruby: Ruby, clean: TestServer, tmp_path: Path) -> None:
    """It was taken from the list and ignored."""
    with kiqpy(clean, tmp_path) as worker:
        worker.says("ctrl-c")
        jid = ruby.ask("push", {"class": "Held", "args": ["here"]})
        wait_told(clean, "began", 1)
        assert ruby.ask("signal", identity(ruby), "dump_threads")
        worker.says("Current thread")
        assert "in held" in worker.err
        assert "kiqpy-beat" in worker.err or "_beat_on" in worker.err
        clean.cli("SET", "test:go", 1)
        assert wait_told(clean, "python", 1) == [[jid, "here"]]

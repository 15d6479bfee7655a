"""Every benchmark party has an adapter, ours run, and a failure says why."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import parties, plan, rounds, sidekiq
from benchmarks.micro import parts, timing
from benchmarks.ours.bare import ranges
from benchmarks.peers import PEERS, Peer, venvs
from tests.server import TestServer

ROOT = Path(__file__).parents[2]
FEW = "200"


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_peer_has_an_adapter_that_ends_in_the_harness(peer: Peer) -> None:
    tree = ast.parse((ROOT / "benchmarks" / "peers" / f"{peer.module}.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    defined = {item.name for item in classes[0].body if hasattr(item, "name")}
    assert {"open", "push", "serve"} <= defined
    assert "main(" in ast.unparse(tree.body[-1])


@pytest.mark.parametrize("module", ["with_kiqpy", "bare"])
def test_ours_are_measured(module: str, clean: TestServer, redis_url: str) -> None:
    line = [sys.executable, "-m", f"benchmarks.ours.{module}", redis_url, "drain", FEW]
    figures, why = rounds.once(line, {**os.environ, "PYTHONPATH": str(ROOT)})
    clean.cli("FLUSHALL")
    assert why == ""
    assert figures["jobs_per_s"] > 0
    assert figures["redis_commands_per_job"] > 0


@pytest.mark.skipif(shutil.which("sidekiq") is None, reason="no sidekiq on PATH")
def test_sidekiq_is_measured(clean: TestServer, redis_url: str) -> None:
    figures = sidekiq.sidekiq(redis_url, 2000)
    clean.cli("FLUSHALL")
    assert figures["jobs_per_s"] > 0


def test_the_bare_loop_acks_in_the_scripts_ranges() -> None:
    assert ranges([9, 7, 8, 11]) == "7-9,11-11"


def test_a_run_that_fails_says_why() -> None:
    told = rounds.once([sys.executable, "-c", "raise SystemExit('no such broker')"], {})
    assert told == ({}, "no such broker")


def test_what_a_party_does_not_have_is_no_figure() -> None:
    told = rounds.once([sys.executable, "-c", """print('{"unsupported": "no bulk call"}')"""], {})
    assert told == ({}, "no bulk call")


def test_a_peer_that_needs_another_python_says_so() -> None:
    with pytest.raises(venvs.NotInstalled, match=r"needs Python 3\.99"):
        venvs.interpreter("3.99")


def test_an_unknown_peer_is_an_error() -> None:
    with pytest.raises(SystemExit, match="known: arq"):
        parties.peers(["kew"])


def test_every_measure_makes_a_command_for_every_party_it_asks() -> None:
    some = parties.Party("kiqpy", "python", "benchmarks.ours.with_kiqpy", 1, "async", "", {})
    for measure in plan.MEASURES:
        line = rounds.command(measure, some, "redis://x", measure.jobs(some, 1.0))
        assert not [word for word in line if "{" in word]
        assert set(measure.shown) <= plan.UNITS.keys()


@pytest.mark.parametrize("name", parts.PARTS)
def test_every_part_can_be_timed_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LONG_S", 0.0)
    monkeypatch.setattr(timing, "TRIES", 1)
    assert parts.PARTS[name]() > 0

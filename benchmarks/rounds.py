"""Runs all parties in turn, round after round, in alternating order (A B B A)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.parties import Party
from benchmarks.plan import Measure

Figures = dict[str, float]


class Result(NamedTuple):
    """All runs of one party in one measure; or why there are none."""

    measure: str
    party: str
    jobs: int
    runs: list[Figures]
    trouble: str = ""


def command(measure: Measure, party: Party, url: str, jobs: int) -> list[str]:
    """The command line of one run."""
    words = measure.command.format(n=jobs, party=party.module, family=party.family).split()
    return [party.python, "-m", measure.module or party.module, url, *words]


def once(
    line: Sequence[str], environment: dict[str, str], patience_s: float = 90.0
) -> tuple[Figures, str]:
    """The figures of one run; else why there are none."""
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment, start_new_session=True)  # fmt: skip
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        return {}, f"no end within {patience_s:g} s"
    finally:
        _end_group(process)
    lines = [text for text in out.splitlines() if text.startswith("{")]
    if not lines:
        lines = err.strip().splitlines() or [f"ended with {process.returncode}, saying nothing"]
        return {}, lines[-1].strip()[:160]
    figures: dict[str, Any] = json.loads(lines[-1])
    lacks = figures.get("unsupported")
    return ({}, str(lacks)) if lacks else (figures, "")


def _end_group(process: subprocess.Popen[str]) -> None:
    """A party's worker may have children; none outlives its run."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def ordered(parties: Sequence[Party], n: int) -> list[Party]:
    """Round `n`: forwards, backwards, backwards, forwards, ..."""
    return list(parties) if n % 4 in (0, 3) else list(reversed(parties))


def measured(
    measure: Measure,
    parties: Sequence[Party],
    url: str,
    rounds: int,
    share: float,
    tell: Callable[[str], None],
) -> list[Result]:
    """Every party's runs; one that fails is not tried again in this measure."""
    asked = [party for party in parties if measure.asked_of(party)]
    runs: dict[str, list[Figures]] = {party.name: [] for party in asked}
    trouble = {party.name: party.trouble for party in asked}
    rounds = min(rounds, measure.rounds or rounds)
    for n in range(rounds):
        for party in ordered(asked, n):
            if trouble[party.name]:
                continue
            began, jobs = time.monotonic(), measure.jobs(party, share)
            line = command(measure, party, url, jobs)
            figures, why = once(line, party.environment(), measure.patience_s)
            took_s = time.monotonic() - began
            tell(f"{measure.key}, round {n + 1} of {rounds}: {party.name}"
                 f" {why or _first(measure, figures)} ({took_s:.1f} s)")  # fmt: skip
            trouble[party.name] = why
            if figures:
                runs[party.name].append(figures)
    return [
        Result(measure.key, p.name, measure.jobs(p, share), runs[p.name], trouble[p.name])
        for p in asked
    ]


def _first(measure: Measure, figures: Figures) -> str:
    return f"{figures[measure.shown[0]]:,.5g}"


def on_screen(line: str) -> None:
    """Progress: one line that overwrites itself on a terminal, else one line each."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:100]}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)

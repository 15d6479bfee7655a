"""Makes README's table from a result: `python -m benchmarks.summary RESULT.json`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.plan import HIGHER
from benchmarks.report import number


class Line(NamedTuple):
    measure: str
    figure: str
    title: str


LINES: Final = (
    Line("drain: its best limit (kiqpy 1,000)", "jobs_per_s", "no-op jobs processed, jobs/s"),
    Line("sleep: 10 ms x 1,000", "jobs_per_s", "10 ms sleepers, 1,000 at once, jobs/s"),
    Line("far: 1 ms away, limit 100", "jobs_per_s", "processed, Redis 1 ms away, jobs/s"),
    Line("sync: 40 threads", "jobs_per_s", "plain functions in 40 threads, jobs/s"),
    Line("enqueue: one by one", "jobs_per_s", "enqueued one by one, jobs/s"),
    Line("enqueue: 100 tasks", "jobs_per_s", "enqueued from 100 tasks, jobs/s"),
    Line("enqueue: bulk of 1,000", "jobs_per_s", "enqueued 1,000 at a time, jobs/s"),
    Line("latency: idle", "p50_ms", "idle worker, enqueue to body, p50 ms"),
)
OURS: Final = ("kiqpy", "kiqpy-fast", "bare-fast")
KINDS: Final = ("async", "sync")


def table(result: dict[str, Any]) -> str:
    """Markdown: medians of ours, of the bare loop, and of the best peer of each kind."""
    heads = [
        "",
        "kiqpy",
        "kiqpy[fast]",
        "bare loop, fast",
        "best async peer",
        "best peer in threads",
    ]
    rows = [heads, ["---"] * len(heads), *(_row(line, result) for line in LINES)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(line: Line, result: dict[str, Any]) -> list[str]:
    found = medians(line, result["results"])
    kinds: dict[str, str] = result["about"]["kinds"]
    best = max if line.figure in HIGHER else min
    cells = [line.title, *(number(found[name]) for name in OURS)]
    for kind in KINDS:
        peers = [name for name in found if name not in result["about"]["ours"]]
        peers = [name for name in peers if kinds[name] == kind]
        name = best(peers, key=lambda peer: found[peer]) if peers else ""
        cells.append(f"{number(found[name])} ({name})" if name else "-")
    return cells


def medians(line: Line, results: list[dict[str, Any]]) -> dict[str, float]:
    """By party."""
    found: dict[str, float] = {}
    for result in results:
        values = [run[line.figure] for run in result["runs"] if line.figure in run]
        if result["measure"] == line.measure and values:
            found[result["party"]] = statistics.median(values)
    return found


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))

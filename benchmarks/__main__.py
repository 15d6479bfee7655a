"""`make bench`: kiqpy beside the bare loop, interleaved A B B A in the same minutes.

Prints medians with the smallest and largest value, and the ratio of each pair. Machines differ and
are noisy: the ratio is the result, the rates are its ingredients.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kiqpy.store._embedded import EmbeddedServer

ROUNDS = 4
RESULTS = Path(__file__).parent / "results"
Measure = tuple[str, list[str], str]
MEASURES: list[Measure] = [
    ("drain, 50,000 no-op jobs, limit 200", ["benchmarks.drain", "50000", "200"], "jobs_per_s"),
    ("drain, 50,000 no-op jobs, limit 25", ["benchmarks.drain", "50000", "25"], "jobs_per_s"),
    ("CPU of a drained job, limit 200", ["benchmarks.drain", "50000", "200"], "cpu_us_per_job"),
    ("wake-up of an idle worker, p50", ["benchmarks.wake", "400"], "p50_ms"),
]


def once(module: list[str], which: str, url: str) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", module[0], which, url, *module[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(url: str, module: list[str]) -> dict[str, list[dict[str, float]]]:
    """ROUNDS pairs, in the order A B B A."""
    runs: dict[str, list[dict[str, float]]] = {"kiqpy": [], "bare": []}
    for n in range(ROUNDS):
        for which in ("kiqpy", "bare") if n % 2 == 0 else ("bare", "kiqpy"):
            runs[which].append(once(module, which, url))
            print(".", end="", flush=True)
    return runs


def row(name: str, figure: str, runs: dict[str, list[dict[str, float]]]) -> str:
    """A line of the table."""
    cells = [name]
    for which in ("kiqpy", "bare"):
        values = [run[figure] for run in runs[which]]
        cells.append(f"{statistics.median(values):,.4g} ({min(values):,.4g}-{max(values):,.4g})")
    pairs = zip(runs["kiqpy"], runs["bare"], strict=True)
    ratios = [a[figure] / b[figure] for a, b in pairs]
    cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return "| " + " | ".join(cells) + " |"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "server")
        await server.start()
        done: dict[str, dict[str, list[dict[str, float]]]] = {}
        rows: list[str] = []
        for name, module, figure in MEASURES:
            key = " ".join(module)
            done[key] = done.get(key) or measure(server.url, module)
            rows.append(row(name, figure, done[key]))
        await server.stop()
    RESULTS.mkdir(exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.machine()}
    (RESULTS / "latest.json").write_text(json.dumps({"about": about, "runs": done}, indent=1))
    print("\n\n| measure | kiqpy | bare loop | kiqpy / bare |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    asyncio.run(main())

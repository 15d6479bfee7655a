"""kiqpy and Sidekiq in turns: `python -m benchmarks.sidekiq [ROUNDS] [JOBS]`.

Debian: `apt-get install --no-install-recommends ruby-sidekiq`. Both drain the same number of no-op
jobs from the same server, in turns (A B B A). Sidekiq fetches by BRPOP, and so loses what a dying
process had; ten threads, its default.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import bodies, parties, wire
from benchmarks.server import server

RUBY = Path(__file__).parent / "ours" / "sidekiq.rb"
THREADS = 10
PAGE = 1000


def sidekiq(url: str, jobs: int) -> dict[str, float]:
    """One worker process of Ruby's; jobs are pushed as any client would."""
    wire.ask(url, "FLUSHALL")
    for start in range(0, jobs, PAGE):
        page = (payload(n) for n in range(start, min(start + PAGE, jobs)))
        wire.ask(url, "LPUSH", "queue:bench", *page)
    command = ["sidekiq", "-r", str(RUBY), "-q", "bench", "-c", str(THREADS)]
    return ran(command, os.environ | {"REDIS_URL": url, "JOBS": str(jobs)})


def payload(n: int) -> str:
    job = {"class": "Noop", "args": bodies.ARGS, "jid": f"{n:024x}", "queue": "bench",
           "retry": True, "created_at": 1.0, "enqueued_at": 1.0}  # fmt: skip
    return json.dumps(job)


def kiqpy(url: str, jobs: int, variant: str) -> dict[str, float]:
    """The party of `make bench`."""
    [party] = [party for party in parties.ours() if party.name == variant]
    return ran([party.python, "-m", party.module, url, "drain", str(jobs)], party.environment())


def ran(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def main(rounds: int = 3, jobs: int = 50_000) -> None:
    if shutil.which("sidekiq") is None:
        raise SystemExit("no sidekiq on PATH: apt-get install --no-install-recommends ruby-sidekiq")
    rates: dict[str, list[float]] = {"sidekiq": [], "kiqpy": [], "kiqpy-fast": []}
    with server() as url:
        for turn in range(rounds):
            for name in list(rates)[:: -1 if turn % 2 else 1]:
                figures = sidekiq(url, jobs) if name == "sidekiq" else kiqpy(url, jobs, name)
                rates[name].append(figures["jobs_per_s"])
                print(f"{name}: {figures['jobs_per_s']:,.0f} jobs/s, "
                      f"{figures['cpu_us_per_job']:.1f} CPU µs a job", file=sys.stderr)  # fmt: skip
    base = statistics.median(rates["sidekiq"])
    for name, found in rates.items():
        middle = statistics.median(found)
        print(f"{name}: {middle:,.0f} ({min(found):,.0f}-{max(found):,.0f}) jobs/s, "
              f"{middle / base:.2f} x Sidekiq")  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

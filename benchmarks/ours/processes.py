"""Several worker processes on one queue: `python -m benchmarks.ours.processes URL PARTY N WORKERS`.

The jobs are put aside until every worker waits; the clock runs from their return to the queue until
the last one is settled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks import wire
from benchmarks.ours import QUEUE

LIMIT = 200
ASIDE = "bench:aside"
LOOK_S = 0.005
REST_S = 3.0
PATIENCE_S = 120
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds of another process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def settled(url: str) -> int:
    return int(wire.ask(url, "GET", "stat:processed") or 0)


def measure(url: str, module: str, n: int, workers: int) -> dict[str, float]:
    wire.ask(url, "FLUSHALL")
    command = [sys.executable, "-m", module, url]
    subprocess.run([*command, "fill", "noop", str(n)], check=True)
    wire.ask(url, "RENAME", f"queue:{QUEUE}", ASIDE)
    wire.ask(url, "SET", "stat:processed", 0)
    started = [subprocess.Popen([*command, "serve", str(LIMIT)]) for _ in range(workers)]
    try:
        time.sleep(REST_S)
        cpu, began = sum(cpu_s(one.pid) for one in started), time.perf_counter()
        wire.ask(url, "RENAME", ASIDE, f"queue:{QUEUE}")
        while settled(url) < n:
            if time.perf_counter() - began > PATIENCE_S:
                raise SystemExit(f"{settled(url)} of {n} jobs after {PATIENCE_S} s")
            time.sleep(LOOK_S)
        took_s = time.perf_counter() - began
        used_s = sum(cpu_s(one.pid) for one in started) - cpu
    finally:
        for one in started:
            one.kill()
            one.wait()
    return {"jobs_per_s": n / took_s, "cpu_us_per_job": used_s / n * 1e6}


if __name__ == "__main__":
    address, party, count, many = sys.argv[1:]
    print(json.dumps(measure(address, party, int(count), int(many))))

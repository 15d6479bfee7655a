"""The cost of an import: `python -m benchmarks.ours.imports URL kiqpy|bare`; the best of seven."""

from __future__ import annotations

import json
import os
import subprocess
import sys

TRIES = 7
WHAT = {"kiqpy": "from kiqpy import App", "bare": "import redis.asyncio, anyio"}
CODE = """
import time
began = time.perf_counter()
{}
print(time.perf_counter() - began)
"""


def measure(which: str) -> dict[str, float]:
    return {"import_ms": 1000 * min(_once(WHAT[which]) for _ in range(TRIES))}


def _once(statement: str) -> float:
    command = [sys.executable, "-c", CODE.format(statement)]
    cached = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=cached)
    return float(run.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[2])))

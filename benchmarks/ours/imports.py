"""What an import costs: `python -m benchmarks.ours.imports URL kiqpy|bare`; the best of seven."""

from __future__ import annotations

import json
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
    command = [sys.executable, "-c", CODE.format(WHAT[which])]
    took = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(TRIES)
    ]
    return {"import_ms": 1000 * min(took)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[2])))

"""One drain, for comparing two checkouts: `python -m benchmarks.drain kiqpy|bare URL N LIMIT`."""

from __future__ import annotations

import subprocess
import sys

MODULES = {"kiqpy": "benchmarks.ours.with_kiqpy", "bare": "benchmarks.ours.bare"}

if __name__ == "__main__":
    which, url, count, limit = sys.argv[1:5]
    command = [sys.executable, "-m", MODULES[which], url, "drain", count, limit]
    sys.exit(subprocess.run(command).returncode)

"""kiqpy and the bare loop as parties, plain or fast.

`BENCH_VARIANT` ending in `-fast` stands for `kiqpy[fast]`: uvloop, and msgspec to read payloads.
Without it both are kept out of the process, whatever is installed.
"""

from __future__ import annotations

import os
import sys
from typing import Any

VARIANT = os.environ.get("BENCH_VARIANT")  # without it this is no measurement
FAST = VARIANT is not None and VARIANT.endswith("-fast")
EXTRAS = ("uvloop", "msgspec", "orjson")
QUEUE = "bench"

if VARIANT is not None and not FAST:
    modules: dict[str, Any] = sys.modules
    for name in EXTRAS:
        modules[name] = None  # importing it fails as if it were not installed

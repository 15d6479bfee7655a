"""A second client: pings the server at a socket until its stdin has data.

Prints how many times it asked, and the 50th and 99th percentile and the longest answer in ms.
"""

from __future__ import annotations

import select
import sys
import time

from tests.server import Wire

wire = Wire(sys.argv[1])
took: list[float] = []
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for command in (("PING",), ("LPUSH", "queue:another", "x")):
        began = time.perf_counter()
        wire.cli(*command)
        took.append((time.perf_counter() - began) * 1000)
    time.sleep(0.0005)
took.sort()
print(len(took), took[len(took) // 2], took[int(len(took) * 0.99)], took[-1])

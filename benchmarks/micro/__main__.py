"""`python -m benchmarks.micro [WORD ...]`; the last line is JSON."""

from __future__ import annotations

import json
import sys

from benchmarks.micro.parts import PARTS


def main(words: list[str]) -> None:
    found: dict[str, float] = {}
    for name, measure in PARTS.items():
        if words and not any(word in name for word in words):
            continue
        try:
            found[name] = measure()
        except Exception as error:  # the inside has changed; the other parts can be measured
            print(f"{name:36} not measured: {error!r}")
            continue
        print(f"{name:36} {found[name]:8.2f} µs", flush=True)
    print(json.dumps({name: round(us, 3) for name, us in found.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])

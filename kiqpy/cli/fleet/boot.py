"""Started as a program: `python -I -S boot.py SIZE MAX_MB COMMAND...`, a fleet's supervisor.

It outlives many workers and does next to nothing, so it must weigh next to nothing: `kiqpy` itself
brings click, redis and asyncio with it, and is not imported. Its modules are found all the same.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    cli = os.path.dirname(folder)
    for name, place in (
        ("kiqpy", os.path.dirname(cli)),
        ("kiqpy.cli", cli),
        ("kiqpy.cli.fleet", folder),
    ):
        package = type(sys)(name)
        package.__path__ = [place]
        sys.modules[name] = package
    from kiqpy.cli.fleet.watch import main

    sys.exit(main(sys.argv[1:]))

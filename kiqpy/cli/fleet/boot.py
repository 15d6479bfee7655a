"""The program of a fleet's supervisor: `python -I -S boot.py SIZE MAX_MB HEALTH COMMAND...`.

The supervisor outlives many workers and does very little, so it must stay small: importing `kiqpy`
would load click, redis and asyncio (29 MB). Instead, three empty packages are registered under
kiqpy's names, with the right paths, so that `kiqpy.cli.fleet.supervisor` can be imported alone.
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
    from kiqpy.cli.fleet.supervisor import main

    sys.exit(main(sys.argv[1:]))

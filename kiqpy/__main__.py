"""`python -m kiqpy`: the same as the command `kiqpy`."""

from __future__ import annotations

import sys

from kiqpy.cli import main

if __name__ == "__main__":
    sys.exit(main())

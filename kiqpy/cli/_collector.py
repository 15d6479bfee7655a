"""The garbage collector of a process that does nothing but run jobs."""

from __future__ import annotations

import gc
from typing import Final

# A running job is some twenty objects that live until it ends. At Python's own 700 new objects the
# collector looks through all of them again and again, and finds nothing.
_THRESHOLDS: Final = (50_000, 20, 100)
_DEFAULT: Final = gc.get_threshold()  # read before the application's modules are loaded


def tune() -> bool:
    """Collect less often, and never look at what is loaded by now. False: left as it was.

    An application that has set thresholds of its own, or switched the collector off, keeps that.
    """
    if not gc.isenabled() or gc.get_threshold() != _DEFAULT:
        return False
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    return True

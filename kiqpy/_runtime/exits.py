"""Ends a process that could not end by itself: its event loop or its threads are in the way."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from typing import Final, NoReturn

EXIT_DEFECT: Final = 70  # EX_SOFTWARE
_FLUSH_S: Final = 1.0  # a stream that whoever hangs has locked must not hold this up


def end_stuck(why: str) -> NoReturn:
    """End this process with code 70; `why` and the stack of every thread go to stderr first."""
    sys.stderr.write(f"kiqpy: {why}. All stacks:\n")  # nobody can log, the loop is stuck
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    end_process(EXIT_DEFECT)


def end_process(code: int) -> NoReturn:
    """End this process now, with what was logged and printed; from any thread."""
    flushing = threading.Thread(target=_flush, name="kiqpy-flush", daemon=True)
    flushing.start()
    flushing.join(_FLUSH_S)
    os._exit(code)


def _flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()

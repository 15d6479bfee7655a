"""The way out of a process: a job that can't be stopped must not keep it alive."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Final, final

from kiqpy.cli._screen import complain

_LATEST_S: Final = 3.0
STUCK: Final = 75  # EX_TEMPFAIL: start it again, nothing is lost


@final
class Leaving:
    """From `begin`, the process has three seconds to end by itself."""

    def __init__(self) -> None:
        self._gone = threading.Event()

    def begin(self) -> None:
        """Let the time run."""
        threading.Thread(target=self._watch, name="kiqpy-leave", daemon=True).start()

    def done(self) -> None:
        """The loop is closed. If no thread is left that Python waits for, all is well."""
        if not _busy():
            self._gone.set()

    def _watch(self) -> None:
        if self._gone.wait(_LATEST_S):
            return
        names = ", ".join(sorted(thread.name for thread in _busy())) or "none is a thread"
        complain(
            f"stopped, but jobs that can't be interrupted still run after {_LATEST_S:g} s "
            f"({names}); leaving them. Their claims are back in the queue: give them a timeout "
            'of their own, or executor="process"'
        )
        for handler in logging.getLogger().handlers:
            handler.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STUCK)


def _busy() -> list[threading.Thread]:
    """The threads that keep a process alive."""
    main = threading.main_thread()
    return [t for t in threading.enumerate() if not t.daemon and t is not main]

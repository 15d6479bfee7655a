"""Ends a process whose jobs can't be stopped: their threads must not keep it alive."""

from __future__ import annotations

import threading
from typing import Final, final

from kiqpy._runtime.exits import end_process
from kiqpy.cli._screen import complain

_MAX_WAIT_S: Final = 3.0
EXIT_STUCK: Final = 75  # EX_TEMPFAIL: start the process again, nothing is lost


@final
class ExitWatchdog:
    """Ends the process three seconds after `start` if it has not ended by itself."""

    def __init__(self) -> None:
        self._clean = threading.Event()

    def start(self) -> None:
        """Start the three seconds."""
        threading.Thread(target=self._watch, name="kiqpy-exit", daemon=True).start()

    def loop_closed(self) -> None:
        """The event loop is closed. If no thread keeps Python alive, the watchdog stands down."""
        if not _blocking_threads():
            self._clean.set()

    def _watch(self) -> None:
        if self._clean.wait(_MAX_WAIT_S):
            return
        threads = sorted(thread.name for thread in _blocking_threads())
        names = ", ".join(threads) or "the event loop does not close"
        complain(
            f"stopped, but jobs that can't be interrupted still run after {_MAX_WAIT_S:g} s "
            f"({names}): exiting without them. They are back in the queue. Give their blocking "
            'calls a timeout, or use executor="process"'
        )
        end_process(EXIT_STUCK)


def _blocking_threads() -> list[threading.Thread]:
    """The threads that keep a Python process alive."""
    main = threading.main_thread()
    return [t for t in threading.enumerate() if not t.daemon and t is not main]

"""Lets TERM and INT end a process whose event loop does not turn any more."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Final, final

from kiqpy._runtime.exits import end_stuck

_MORE_S: Final = 5.0  # than the grace; a loop that was only busy has turned by then


@final
class BlockedLoopWatch:
    """Beside the loop's own handlers, hears signals that a blocked loop does not.

    A job that never awaits (`while True: pass`) keeps the loop from hearing them; Python itself
    still calls what is set by `signal.signal`. At the first signal the loop has the grace, and
    five seconds, to turn; at a later one five seconds. Then the process ends with code 70.
    """

    def __init__(self, grace_s: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._grace_s = grace_s
        self._told = False

    def hears(self, number: int) -> None:
        """Hear this signal too; the loop has a handler of it already."""
        signal.signal(number, self._on_signal)
        signal.siginterrupt(number, False)

    def _on_signal(self, _number: int, _frame: object) -> None:
        within_s = _MORE_S + (0.0 if self._told else self._grace_s())
        self._told = True
        turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # it is closed: the process ends already
            return
        watch = threading.Thread(
            target=_watch, args=(turned, within_s), name="kiqpy-blocked", daemon=True
        )
        watch.start()


def _watch(turned: threading.Event, within_s: float) -> None:
    if not turned.wait(within_s):
        end_stuck(
            f"told to stop, but the event loop has not turned for {within_s:g} s: this process ends"
            " without a stop, and its jobs are run again when its lease has run out"
        )

"""What a forked child must not take over from its parent: signal handlers, locks, started apps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_handlers: dict[int, Any] = {}
_forgetting: list[WeakMethod[Callable[[], None]]] = []


def handles(number: int) -> None:
    """Remember that the handler of this signal, just set, is ours: no forked child inherits it."""
    _handlers[number] = signal.getsignal(number)


def forget_in_child(method: Callable[[], None]) -> None:
    """Call the method in every child that is forked, before anything else there.

    Its object is held weakly. The method must take no lock that another thread may have held.
    """
    _forgetting[:] = [each for each in _forgetting if each() is not None]
    _forgetting.append(WeakMethod(method))


def _in_child() -> None:
    if _handlers:
        signal.set_wakeup_fd(-1)  # else its signals would be told to the parent's event loop
    for number, ours in _handlers.items():
        if signal.getsignal(number) == ours:
            interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupt else signal.SIG_DFL)
    _handlers.clear()
    for each in _forgetting:
        if (method := each()) is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def is_importing_main() -> bool:
    """Whether this is a child process of multiprocessing that still imports its main module."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)

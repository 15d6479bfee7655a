"""The rules of a fleet as pure functions: restart delays, causes in words, exit codes."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 30.0
SETTLED_S = 60.0  # a worker that lived this long is started again without a longer delay
ONE_SIGNAL_S = 1.0  # two within this time are one, sent to a process and to its group
SIGNALLED_AGAIN = (130, -signal.SIGINT, -signal.SIGTERM)  # a running app does not end by these

_MEANING = {
    1: "the configuration or the store does not allow it to run",
    2: "an unknown option or argument",
    70: "a defect in kiqpy, or a job that blocked the event loop",
    75: "threads that could not be stopped were abandoned",
}


def delay_after(delay_s: float, lived_s: float) -> float:
    """The next delay, where the last one was `delay_s` and the worker then lived `lived_s`."""
    if lived_s >= SETTLED_S or not delay_s:
        return FIRST_DELAY_S
    return min(2 * delay_s, LAST_DELAY_S)


def cause(code: int) -> str:
    """How a process ended, in words; `code` is negative for a signal."""
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL (if nobody sent it, the machine was out of memory)"
    if code < 0:
        return f"was killed by {_signal(-code)}"
    meaning = f" ({_MEANING[code]})" if code in _MEANING else ""
    return f"ended with exit code {code}{meaning}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_code(codes: Iterable[int]) -> int:
    """The fleet's exit code: the first that is not 0, a signal as 128 + its number; else 0."""
    first = next((code for code in codes if code), 0)
    return first if first >= 0 else 128 - first


def processes(n: int) -> str:
    """`1 process`, `2 processes`."""
    return "1 process" if n == 1 else f"{n} processes"


def heaviest(sizes: Mapping[int, float], limit: float) -> int | None:
    """The pid of the largest process above the limit; None if none is."""
    above = [pid for pid, size in sizes.items() if size > limit]
    return max(above, key=lambda pid: sizes[pid], default=None)

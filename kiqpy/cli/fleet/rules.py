"""The rules of a fleet, as functions of values: how long, why, who, with what exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 30.0
SETTLED_S = 60.0
TOLD_AGAIN = (130, -signal.SIGINT, -signal.SIGTERM)  # a running app does not end by these

_KNOWN = {
    1: "the configuration or the store does not allow it to run",
    2: "it was called with something it does not know",
    70: "a defect of kiqpy's own",
    75: "threads that can't be stopped were left behind",
}


def delay_after(delay_s: float, lived_s: float) -> float:
    """What to wait now, after having waited `delay_s` for one that then lived `lived_s`."""
    if lived_s >= SETTLED_S or not delay_s:
        return FIRST_DELAY_S
    return min(2 * delay_s, LAST_DELAY_S)


def cause(code: int) -> str:
    """How a process ended, in words; `code` is negative for a signal."""
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL (if nobody sent it, the machine was out of memory)"
    if code < 0:
        return f"was killed by {_signal(-code)}"
    return f"ended with exit code {code}" + (f" ({_KNOWN[code]})" if code in _KNOWN else "")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_code(codes: Iterable[int]) -> int:
    """The fleet's: 0 if all ended well, else that of the first that did not, as a shell has it."""
    first = next((code for code in codes if code), 0)
    return first if first >= 0 else 128 - first


def processes(n: int) -> str:
    """So many of them."""
    return "1 process" if n == 1 else f"{n} processes"


def heaviest(sizes: Mapping[int, float], limit: float) -> int | None:
    """The process to replace next: the largest above the limit."""
    above = [pid for pid, size in sizes.items() if size > limit]
    return max(above, key=lambda pid: sizes[pid], default=None)

"""Durations and instants as people read them, for the command line and the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def duration_text(seconds: float, separator: str = "") -> str:
    """The two largest units: 90.0 becomes `1m30s`; below 10 s a decimal; negative is `0.0s`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    left, words = int(seconds), list[str]()
    for unit, size in _UNITS:
        if left >= size:
            words.append(f"{left // size:,}{unit}")
            left %= size
    return separator.join(words[:2])


def instant_text(at: float, zone: str = "Z") -> str:
    """Epoch seconds in UTC, followed by `zone`; as a number if no calendar reaches that far."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") + zone
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"

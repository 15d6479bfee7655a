"""Values as people read them. Whatever comes from a job may be of any size and any nonsense."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Final, NamedTuple

from kiqpy.admin._text import duration_text, instant_text

_UNSHOWN: Final = "-"


class Clipped(NamedTuple):
    """The beginning of a text, and how many characters of it are not there."""

    text: str
    left_out: int


def number(value: float | None) -> str:
    """1234567 -> 1,234,567."""
    return _UNSHOWN if value is None else f"{value:,}"


def rate(value: float) -> str:
    """A number a second, with as many digits as say something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def span(seconds: float | None) -> str:
    """A duration: 90.0 -> 1m 30s."""
    if seconds is None or not math.isfinite(seconds):
        return _UNSHOWN
    return duration_text(seconds, " ")


def relative(at: float | None, now: float) -> str:
    """How long ago, or in how long."""
    if at is None or not math.isfinite(at):
        return _UNSHOWN
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def utc(at: float | None) -> str:
    """An instant in UTC; a time beyond all calendars as its number."""
    return _UNSHOWN if at is None else instant_text(at, " UTC")


def iso(at: float | None) -> str:
    """An instant for the `datetime` attribute; empty if there is no such day."""
    try:
        return datetime.fromtimestamp(at or 0.0, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return ""


def clip(value: object, most: int) -> str:
    """At most so many characters, with an ellipsis for the rest."""
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def cut(text: str, most: int) -> Clipped:
    """At most so many characters, and how many more there were."""
    return Clipped(text[:most], max(0, len(text) - most))


def as_json(value: object, *, indent: int | None = None) -> str:
    """JSON for reading; for what can't be written a word that says so."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, default=repr)
    except (ValueError, RecursionError):
        return "(can't be shown as JSON)"


def as_text(raw: bytes) -> str:
    """Bytes that need not be text."""
    return raw.decode(errors="replace")

"""Graphs as numbers for the templates' SVG: drawn by the server, so they need no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kiqpy.admin import Day
from kiqpy.web._numbers import Rate

WIDTH: Final = 900
HEIGHT: Final = 140
_LEAST_RATE: Final = 1.0  # an idle system is a flat line at the bottom, not noise


class Bar(NamedTuple):
    """One day: two rectangles upon each other."""

    x: float
    width: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float
    label: str


class Bars(NamedTuple):
    """Processed and failed of each day, oldest first; `top` is the height in jobs."""

    bars: Sequence[Bar]
    top: int


class Lines(NamedTuple):
    """Two polylines' points; `top` is the height in jobs a second."""

    processed: str
    failed: str
    top: float
    seconds: float
    last: Rate | None


def day_bars(days: Sequence[Day]) -> Bars:
    """A bar a day."""
    top = max((day.processed for day in days), default=0)
    step = WIDTH / max(1, len(days))
    bars = [_bar(n * step, step * 0.8, day, top) for n, day in enumerate(reversed(days))]
    return Bars(bars, top)


def _bar(x: float, width: float, day: Day, top: int) -> Bar:
    failed = min(day.failed, day.processed)
    whole, red = (round(HEIGHT * n / top, 1) if top else 0.0 for n in (day.processed, failed))
    return Bar(
        x=round(x, 1),
        width=round(width, 1),
        done_y=round(HEIGHT - whole, 1),
        done_height=round(whole - red, 1),
        failed_y=round(HEIGHT - red, 1),
        failed_height=red,
        label=f"{day.date}: {day.processed:,} processed, {day.failed:,} failed",
    )


def rate_lines(rates: Sequence[Rate]) -> Lines:
    """Jobs a second over the last minutes; the newest is at the right edge."""
    if not rates:
        return Lines("", "", _LEAST_RATE, 0.0, None)
    top = max(_LEAST_RATE, *(rate.processed for rate in rates))
    begin, end = rates[0].at, rates[-1].at
    processed = [_point(rate.at, rate.processed, begin, end, top) for rate in rates]
    failed = [_point(rate.at, min(rate.failed, top), begin, end, top) for rate in rates]
    return Lines(" ".join(processed), " ".join(failed), top, end - begin, rates[-1])


def _point(at: float, value: float, begin: float, end: float, top: float) -> str:
    x = WIDTH * (at - begin) / (end - begin) if end > begin else WIDTH
    return f"{x:.1f},{HEIGHT - (HEIGHT - 2) * value / top:.1f}"

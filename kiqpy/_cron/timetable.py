"""Computes when a periodic job is due, from local times, across changes of the clocks.

A *wall time* is what a local clock shows, as seconds since it showed 1970-01-01 00:00. Where clocks
jump, a wall time may not exist (the gap in spring) or exist twice (the overlap in autumn):

* `FixedTimes`, for expressions that name hours: a time in a gap is due right after the gap, one in
  an overlap once, at the first of the two.
* `WallClockTimes`, for any hour: a time is due whenever the clock shows it, so not at all in a gap
  and twice in an overlap.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import floor
from typing import Final, Protocol, final

from kiqpy.errors import ConfigError, suggest

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
_STRIDE_S: Final = 43_200  # no zone changes its clocks twice within this time


class Timetable(Protocol):
    """An endless sequence of instants, in epoch seconds."""

    def next(self, after_s: float) -> float:
        """The first one after `after_s`."""
        ...


class LocalTimes(Protocol):
    """An endless sequence of wall times."""

    def next(self, after: int) -> int:
        """The first one after `after`."""
        ...


@final
class Interval:
    """The multiples of an interval since the epoch: the same instants in every process."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def next(self, after_s: float) -> float:
        number = floor(after_s / self._interval_s) + 1
        at = round(number * self._interval_s, 6)
        return at if at > after_s else round((number + 1) * self._interval_s, 6)


@final
class Zone:
    """A time zone, and when it changes its clocks.

    Raises: ConfigError: there is no zone of this name.
    """

    def __init__(self, name: str) -> None:
        self._info = _zone(name)

    def offset(self, at: int) -> int:
        """How many seconds local clocks are ahead of UTC at an instant."""
        local = (_EPOCH + timedelta(seconds=at)).astimezone(self._info)
        return _whole_seconds(local.utcoffset())

    def offsets(self, wall: int) -> tuple[int, int]:
        """The offsets of a wall time: before and after a change, if it is in a gap or overlap."""
        local = (_NAIVE_EPOCH + timedelta(seconds=wall)).replace(tzinfo=self._info)
        before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
        return _whole_seconds(before), _whole_seconds(after)

    def change(self, after: int, until: int) -> int | None:
        """The first instant in (after, until] whose offset is not that of `after`, or None."""
        offset, at = self.offset(after), after
        while at < until:
            before, at = at, min(at + _STRIDE_S, until)
            if self.offset(at) != offset:
                return self._first_other(before, at, offset)
        return None

    def _first_other(self, before: int, at: int, offset: int) -> int:
        while at - before > 1:
            middle = (before + at) // 2
            if self.offset(middle) == offset:
                before = middle
            else:
                at = middle
        return at


@final
class FixedTimes:
    """Wall times, each due once."""

    def __init__(self, wall: LocalTimes, zone: Zone) -> None:
        self._wall = wall
        self._zone = zone

    def next(self, after_s: float) -> float:
        wall = floor(after_s) + self._zone.offset(floor(after_s))
        while True:
            wall = self._wall.next(wall)
            if (at := self._first(wall)) > after_s:  # else it was due the first time it was shown
                return float(at)

    def _first(self, wall: int) -> int:
        before, after = self._zone.offsets(wall)
        if before >= after:
            return wall - before
        end_of_gap = self._zone.change(wall - after, wall - before)
        assert end_of_gap is not None
        return end_of_gap


@final
class WallClockTimes:
    """Wall times, due whenever the clock shows them."""

    def __init__(self, wall: LocalTimes, zone: Zone) -> None:
        self._wall = wall
        self._zone = zone

    def next(self, after_s: float) -> float:
        since = floor(after_s)
        offset = self._zone.offset(since)
        at = self._wall.next(since + offset) - offset
        while (change := self._zone.change(since, at)) is not None:
            since, offset = change, self._zone.offset(change)
            at = self._wall.next(change - 1 + offset) - offset
        return float(at)


def _whole_seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return round(offset.total_seconds())


@lru_cache(maxsize=256)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        known = zoneinfo.available_timezones()
    hint = suggest(name, known) or 'give one such as "Europe/Paris"'
    if not known:
        hint = "this machine has no time zones: pip install tzdata"
    raise ConfigError(f"tz={name!r}: no such time zone; {hint}") from None


def zone_name(tz: object) -> str:
    """The name of a time zone that is given by name, as a ZoneInfo or as `datetime.UTC`.

    Raises: ConfigError: it has no name, such as a fixed offset.
    """
    name = "UTC" if tz is UTC else getattr(tz, "key", tz)
    if isinstance(name, str):
        return name
    raise ConfigError(
        f'tz={tz!r}: no such time zone; give one such as "Europe/Paris", or a ZoneInfo'
    )

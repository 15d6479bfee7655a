"""Clock changes: a table checked by hand, and properties over 50 zones and ten years.

The properties are judged by an oracle that knows nothing of timetables: it looks at each minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiqpy import Periodic, worker

NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"
SAO_PAULO, COPENHAGEN = "America/Sao_Paulo", "Europe/Copenhagen"
_NAMES = """
America/New_York Australia/Lord_Howe America/Sao_Paulo Europe/Copenhagen Pacific/Apia
Africa/Casablanca Antarctica/Troll Pacific/Chatham Asia/Pyongyang America/Caracas Europe/Istanbul
Asia/Amman Asia/Gaza Asia/Tehran Asia/Kathmandu Asia/Kolkata America/St_Johns America/Havana
America/Asuncion America/Santiago America/Godthab America/Scoresbysund Atlantic/Azores Europe/London
Europe/Dublin Europe/Lisbon Europe/Moscow Europe/Volgograd Europe/Samara Asia/Beirut
Asia/Damascus Asia/Jerusalem Asia/Ulaanbaatar Asia/Hong_Kong Asia/Tokyo Asia/Yekaterinburg
Africa/Cairo Africa/Khartoum Africa/Juba Africa/Windhoek Pacific/Auckland Pacific/Fiji
Pacific/Tongatapu Pacific/Norfolk Pacific/Bougainville Pacific/Kiritimati Antarctica/Casey
America/Port-au-Prince America/Metlakatla UTC
"""
ZONES = _NAMES.split()
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2010, 2020))
DAY = 86_400


@worker
async def job() -> None: ...


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# zone, expression, from (UTC), the ticks that follow (UTC)
TABLE = [
    # New York leaves 02:00-03:00 out on 10 March (07:00 UTC) ...
    (NEW_YORK, "30 2 * * *", "2024-03-09 00:00", ["09 07:30", "10 07:00", "11 06:30"]),
    (NEW_YORK, "0,20,40 2 * * *", "2024-03-09 07:30", ["09 07:40", "10 07:00", "11 06:00"]),
    (NEW_YORK, "0 2,3 * * *", "2024-03-10 00:00", ["10 07:00", "11 06:00", "11 07:00"]),
    (NEW_YORK, "30 * * * *", "2024-03-10 06:00", ["10 06:30", "10 07:30", "10 08:30"]),
    (NEW_YORK, "0 */2 * * *", "2024-03-10 04:30", ["10 05:00", "10 08:00", "10 10:00"]),
    (NEW_YORK, "*/15 2 10 3 *", "2024-01-01 00:00", ["10 07:00"]),
    # ... and has 01:00-02:00 twice on 3 November (first 05:00, then 06:00 UTC).
    (NEW_YORK, "30 1 * * *", "2024-11-02 00:00", ["02 05:30", "03 05:30", "04 06:30"]),
    (NEW_YORK, "30 * * * *", "2024-11-03 05:00", ["03 05:30", "03 06:30", "03 07:30"]),
    (NEW_YORK, "0 */1 * * *", "2024-11-03 04:30", ["03 05:00", "03 06:00", "03 07:00"]),
    (NEW_YORK, "0 0-23 * * *", "2024-11-03 04:30", ["03 05:00", "03 06:00", "03 07:00"]),
    (NEW_YORK, "59 59 1 * * *", "2024-11-03 05:00", ["03 05:59", "04 06:59"]),
    (NEW_YORK, "0 1 * * *", "2024-11-03 05:30", ["04 06:00", "05 06:00"]),
    (NEW_YORK, "30 1 * * *", "2024-11-03 06:10", ["04 06:30", "05 06:30"]),
    (NEW_YORK, "50 1-2 * * *", "2024-11-03 06:55", ["03 07:50", "04 06:50"]),
    (NEW_YORK, "0 9 * * 1-5", "2024-11-01 14:00", ["04 14:00", "05 14:00"]),
    # Lord Howe has 01:30-02:00 twice on 7 April (until 15:00 UTC the day before) ...
    (LORD_HOWE, "45 1 * * *", "2024-04-05 00:00", ["05 14:45", "06 14:45", "07 15:15"]),
    (LORD_HOWE, "45 * * * *", "2024-04-06 14:00", ["06 14:45", "06 15:15", "06 16:15"]),
    (LORD_HOWE, "15 * * * *", "2024-04-06 14:00", ["06 14:15", "06 15:45", "06 16:45"]),
    # ... and leaves 02:00-02:30 out on 6 October (15:30 UTC the day before).
    (LORD_HOWE, "15 2 * * *", "2024-10-04 00:00", ["04 15:45", "05 15:30", "06 15:15"]),
    (LORD_HOWE, "15 * * * *", "2024-10-05 14:00", ["05 14:45", "05 16:15", "05 17:15"]),
    # São Paulo had no midnight on 4 November 2018 (03:00 UTC) ...
    (SAO_PAULO, "0 0 * * *", "2018-11-02 12:00", ["03 03:00", "04 03:00", "05 02:00"]),
    (SAO_PAULO, "0 0 4 11 *", "2018-11-02 12:00", ["04 03:00"]),
    (SAO_PAULO, "@hourly", "2018-11-04 01:30", ["04 02:00", "04 03:00", "04 04:00"]),
    # ... and 23:00 of 17 February twice (first 01:00, then 02:00 UTC of the 18th).
    (SAO_PAULO, "30 23 * * *", "2018-02-17 00:00", ["17 01:30", "18 01:30", "19 02:30"]),
    (SAO_PAULO, "0 0 * * *", "2018-02-17 12:00", ["18 03:00", "19 03:00"]),
    (SAO_PAULO, "30 * * * *", "2018-02-18 01:00", ["18 01:30", "18 02:30", "18 03:30"]),
    # Copenhagen: 31 March without 02:00-03:00, 27 October with two of them (00:00 and 01:00 UTC).
    (COPENHAGEN, "30 2 * * *", "2024-03-30 00:00", ["30 01:30", "31 01:00", "01 00:30"]),
    (COPENHAGEN, "30 2 * * *", "2024-10-26 00:00", ["26 00:30", "27 00:30", "28 01:30"]),
    (COPENHAGEN, "*/30 2 * * *", "2024-10-26 12:00", ["27 00:00", "27 00:30", "28 01:00"]),
    (COPENHAGEN, "*/30 * * * *", "2024-10-27 00:00", ["27 00:30", "27 01:00", "27 01:30"]),
    (COPENHAGEN, "@daily", "2024-03-30 12:00", ["30 23:00", "31 22:00"]),
    # Samoa had no 30 December 2011: the clocks went from the 29th to the 31st (10:00 UTC).
    ("Pacific/Apia", "0 12 * * *", "2011-12-29 12:00", ["29 22:00", "30 10:00", "30 22:00"]),
    ("Pacific/Apia", "0 */12 * * *", "2011-12-29 12:00", ["29 22:00", "30 10:00", "30 22:00"]),
]


@pytest.mark.parametrize(("zone", "cron", "since", "expected"), TABLE)
def test_the_table(zone: str, cron: str, since: str, expected: list[str]) -> None:
    entry, at = Periodic(cron, job, tz=zone), utc(since)
    found: list[str] = []
    for _ in expected:
        at = entry.next(at)
        found.append(datetime.fromtimestamp(at, UTC).strftime("%d %H:%M"))
    assert found == expected


# ---- the oracle


@cache
def offset(zone: str, at: int) -> int:
    shown = datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()
    assert shown is not None
    return int(shown.total_seconds())


@cache
def changes(zone: str) -> list[int]:
    """The minutes of ten years at which the offset changes."""
    found = []
    for day in range(FIRST, LAST, DAY):
        if offset(zone, day) != offset(zone, day + DAY):
            minutes = range(day + 60, day + DAY + 60, 60)
            found += [m for m in minutes if offset(zone, m) != offset(zone, m - 60)]
    return found


class Oracle:
    """Judges each minute for itself. `hours` and `minutes` are sets, days are not restricted."""

    def __init__(self, zone: str, minutes: set[int], hours: set[int]) -> None:
        self.zone, self.minutes, self.hours = zone, minutes, hours

    def wanted(self, wall: int) -> bool:
        return wall // 60 % 60 in self.minutes and wall // 3600 % 24 in self.hours

    def running(self, start: int, end: int) -> list[int]:
        """Each minute whose clock shows what is wanted."""
        each = range(start + 60, end + 60, 60)
        return [m for m in each if self.wanted(m + offset(self.zone, m))]

    def fixed(self, start: int, end: int) -> list[int]:
        """The first minute at which the clock has reached or passed a wanted time."""
        found: set[int] = set()
        furthest = max(m + offset(self.zone, m) for m in range(start - 2 * DAY, start + 60, 60))
        for minute in range(start + 60, end + 60, 60):
            wall = minute + offset(self.zone, minute)
            if any(self.wanted(w) for w in range(furthest + 60, wall + 60, 60)):
                found.add(minute)
            furthest = max(furthest, wall)
        return sorted(found)


def text(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


MINUTES = st.sets(st.sampled_from(range(60)), min_size=1, max_size=4)
HOURS = st.sets(st.sampled_from([*range(5), 22, 23, 9, 12]), min_size=1, max_size=4)
SURELY = settings(max_examples=80, deadline=None, derandomize=True, database=None)


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, int, int]:
    """A zone, and a day and a half of its: nearly always around a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    middle = draw(st.sampled_from(changes(zone) or [FIRST + 1000 * DAY]))
    start = middle - DAY - 60 * draw(st.integers(0, 90))
    return zone, start, start + 3 * DAY // 2


def agree(entry: Periodic, expected: list[int], start: int, end: int) -> None:
    """The ticks of a span, and the next one from any instant of it."""
    assert entry.ticks(start, end) == expected
    for at in range(start, end, 1740):
        assert next((tick for tick in expected if tick > at), entry.next(at)) == entry.next(at)


def test_there_are_fifty_zones_with_changes() -> None:
    assert len(set(ZONES)) == 50
    assert sum(len(changes(zone)) for zone in ZONES) > 500


@SURELY
@given(spans(), MINUTES, HOURS)
def test_named_hours_run_once_and_never_not(
    span: tuple[str, int, int], minutes: set[int], hours: set[int]
) -> None:
    zone, start, end = span
    entry = Periodic(f"{text(minutes)} {text(hours)} * * *", job, tz=zone)
    agree(entry, Oracle(zone, minutes, hours).fixed(start, end), start, end)


@SURELY
@given(spans(), MINUTES, st.sampled_from([1, 2, 3, 5, 6, 7]))
def test_other_hours_follow_the_clock(
    span: tuple[str, int, int], minutes: set[int], step: int
) -> None:
    zone, start, end = span
    entry = Periodic(f"{text(minutes)} */{step} * * *", job, tz=zone)
    oracle = Oracle(zone, minutes, {*range(0, 24, step)})
    agree(entry, oracle.running(start, end), start, end)


def wall(zone: str, at: float) -> datetime:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).replace(tzinfo=None)


@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_of_each_zone(zone: str) -> None:
    """Strictly increasing; each tick is what the expression says, but at the end of a gap;

    no local time twice for named hours; a day without a tick is a day that did not exist.
    """
    entry = Periodic("30 2 * * *", job, tz=zone)
    ticks: Sequence[float] = entry.ticks(FIRST, LAST)
    assert all(a < b for a, b in pairwise(ticks))
    shown = [wall(zone, tick) for tick in ticks]
    assert len(set(shown)) == len(shown)
    moved = [
        at for at, seen in zip(ticks, shown, strict=True) if (seen.hour, seen.minute) != (2, 30)
    ]
    assert set(moved) <= set(changes(zone))
    days = {seen.date() for seen in shown}
    whole = {shown[0].date() + timedelta(days=n) for n in range((shown[-1] - shown[0]).days + 1)}
    assert len(whole - days) == (zone == "Pacific/Apia"), "only Samoa has skipped a day"

    monthly = Periodic("15 */12 1,15 * mon", job, tz=zone)
    found = monthly.ticks(FIRST, LAST)
    assert all(a < b for a, b in pairwise(found))
    assert len(found) > 1300
    for tick in found:
        seen = wall(zone, tick)
        assert (seen.minute, seen.hour % 12) == (15, 0)
        assert seen.day in (1, 15) or seen.weekday() == 0

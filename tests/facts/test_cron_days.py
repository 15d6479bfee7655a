"""Which days a cron expression names: every form of one day field with every form of the other."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from kiqpy import ConfigError, Periodic, worker

Names = Callable[[date], bool]
SINCE, DAYS = date(2023, 12, 31), 1100  # a leap year among them


@worker
async def job() -> None: ...


def last_of(day: date) -> int:
    return monthrange(day.year, day.month)[1]


def nearest_weekday(number: int) -> Names:
    """The working day nearest to a day of the month (at most its last one), in the same month."""

    def names(day: date) -> bool:
        target = day.replace(day=min(number, last_of(day)))
        if target.isoweekday() == 6:
            target += timedelta(days=-1 if target.day > 1 else 2)
        elif target.isoweekday() == 7:
            target += timedelta(days=1 if target.day < last_of(day) else -2)
        return day == target

    return names


def weekday(*numbers: int) -> Names:
    return lambda day: day.isoweekday() in numbers


def month_day(*numbers: int) -> Names:
    return lambda day: day.day in numbers


def nth(number: int, count: int) -> Names:
    return lambda day: day.isoweekday() == number and (day.day - 1) // 7 + 1 == count


def last(number: int) -> Names:
    return lambda day: day.isoweekday() == number and day.day + 7 > last_of(day)


def either(*forms: Names) -> Names:
    return lambda day: any(form(day) for form in forms)


MONTH_DAYS: dict[str, Names] = {
    "10": month_day(10),
    "1,15": month_day(1, 15),
    "1-14": month_day(*range(1, 15)),
    "31": month_day(31),
    "*/10": month_day(1, 11, 21, 31),
    "15W": nearest_weekday(15),
    "1W": nearest_weekday(1),
    "30w": nearest_weekday(30),
    "L": lambda day: day.day == last_of(day),
    "10,L": lambda day: day.day in (10, last_of(day)),
}
WEEKDAYS: dict[str, Names] = {
    "fri": weekday(5),
    "mon,3": weekday(1, 3),
    "sat-sun": weekday(6, 7),
    "5#2": nth(5, 2),
    "sun#5": nth(7, 5),
    "L5": last(5),
    "L0": last(7),
    "mon,5#2": either(weekday(1), nth(5, 2)),
    "5#1,5#3": either(nth(5, 1), nth(5, 3)),
    "L5,2": either(last(5), weekday(2)),
}


def found(cron: str) -> list[date]:
    since = datetime(SINCE.year, SINCE.month, SINCE.day, 12, tzinfo=UTC).timestamp()
    ticks = Periodic(cron, job).ticks(since, since + DAYS * 86_400)
    return [datetime.fromtimestamp(tick, UTC).date() for tick in ticks]


def expected(names: Names) -> list[date]:
    days = (SINCE + timedelta(days=n) for n in range(1, DAYS + 1))
    return [day for day in days if names(day)]


@pytest.mark.parametrize("month_days", [*MONTH_DAYS, "*", "?"])
@pytest.mark.parametrize("weekdays", [*WEEKDAYS, "*", "?"])
def test_either_day_field_will_do(month_days: str, weekdays: str) -> None:
    given = [MONTH_DAYS.get(month_days), WEEKDAYS.get(weekdays)]
    fields = [names for names in given if names is not None]
    names = either(*fields) if fields else lambda _day: True
    assert found(f"0 9 {month_days} * {weekdays}") == expected(names)


@pytest.mark.parametrize("weekdays", WEEKDAYS)
def test_a_day_that_never_is_leaves_the_other_field(weekdays: str) -> None:
    names = WEEKDAYS[weekdays]
    both = expected(lambda day: day.month == 2 and names(day))
    assert found(f"0 9 30 2 {weekdays}") == both


def test_a_fifth_weekday_of_february_comes_after_28_years() -> None:
    first = Periodic("0 9 * 2 fri#5", job).next(0.0)
    assert datetime.fromtimestamp(first, UTC) == datetime(1980, 2, 29, 9, tzinfo=UTC)
    second = Periodic("0 9 29 2 *", job).next(first)
    assert datetime.fromtimestamp(second, UTC) == datetime(1984, 2, 29, 9, tzinfo=UTC)
    assert (
        Periodic("0 9 * 2 fri#5", job).next(first)
        == datetime(2008, 2, 29, 9, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize("cron", ["0 9 30 2 *", "0 9 31 2,4,6 *"])
def test_a_day_that_never_is_is_refused(cron: str) -> None:
    with pytest.raises(ConfigError, match="no day is ever like that"):
        Periodic(cron, job)

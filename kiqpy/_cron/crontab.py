"""Reads a cron expression strictly; every error names the field that is wrong."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kiqpy.errors import ConfigError, suggest

_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ITEM: Final = re.compile(r"(?:(?P<any>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    """What one field takes. `special`: a pattern of items that croniter gets unchanged."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    special: str = "(?!)"

    def takes(self) -> str:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"takes {self.lowest}-{self.highest}{names}, *, a-b, */n, and lists of them (a,b)"


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, special=r"l|([1-9]|[12]\d|3[01])w"),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _DAYS, special=r"l[0-7]|([0-7]|sun|mon|tue|wed|thu|fri|sat)#[1-5]"),
)


class Crontab(NamedTuple):
    """A cron expression: the times of a day, and the days.

    `days`: for croniter, each "day of month, month, weekday"; a day that matches one of them
    counts. `follows_clock`: the hour field names no hours, so each hour that a clock shows counts.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[str, ...]
    follows_clock: bool


def read(text: str) -> Crontab:
    """The expression: five fields, six with the second before them, or a nickname like `@daily`.

    The five are minute, hour, day of month, month, weekday.
    Raises: ConfigError: names the field that is wrong, and what it takes.
    """
    words = _words(text)
    first = len(_FIELDS) - len(words)
    found = [
        _read_field(text, position, field, word)
        for position, (field, word) in enumerate(zip(_FIELDS[first:], words, strict=True), 1)
    ]
    seconds, minutes, hours = (*([["0"]] if first else []), *found)[:3]
    every_hour = "*" in words[-4] or "/" in words[-4] or len(hours) == 24
    return Crontab(
        seconds=_all(seconds, 60),
        minutes=_all(minutes, 60),
        hours=_all(hours, 24),
        days=_days(*found[-3:]),
        follows_clock=every_hour,
    )


def _days(month_days: list[str], months: list[str], weekdays: list[str]) -> tuple[str, ...]:
    """One text for the day of month and one for the weekday, if both fields name days.

    In cron either will do. croniter does not know that of `15w` and `5#2`, so it gets them apart.
    """
    month = ",".join(months)
    if len(weekdays) == 7 or len(month_days) == 31:  # one of them is every day
        month_days = weekdays = ["*"]
    if month_days == ["*"]:
        return tuple(f"* {month} {items}" for items in _apart(weekdays))
    texts = [f"{items} {month} *" for items in _apart(month_days)]
    if weekdays != ["*"]:
        texts += [f"* {month} {items}" for items in _apart(weekdays)]
    return tuple(texts)


def _apart(values: list[str]) -> list[str]:
    """The plain days of a field as one text, each special one as another."""
    plain = ",".join(value for value in values if value.isdigit() or value == "*")
    special = [value for value in values if not (value.isdigit() or value == "*")]
    return [plain, *special] if plain else special


def _words(text: str) -> list[str]:
    lowered = text.strip().lower()
    if lowered.startswith("@"):
        if lowered not in _NICKNAMES:
            hint = suggest(lowered, _NICKNAMES) or "there are " + ", ".join(_NICKNAMES)
            raise ConfigError(f"cron {text!r}: {hint}; for an interval use every=...")
        lowered = _NICKNAMES[lowered]
    words = lowered.split()
    if len(words) not in (5, 6):
        raise ConfigError(
            f"cron {text!r}: {len(words)} fields; give 5 (minute, hour, day of month, month, "
            "weekday), or 6 with the second before them"
        )
    if re.fullmatch(r"utc|[a-z_]+/[a-z_/+-]+", words[-1]):
        raise ConfigError(f"cron {text!r}: give the time zone as tz={text.split()[-1]!r}")
    return words


def _read_field(text: str, position: int, field: _Field, word: str) -> list[str]:
    """The values that a field names, as texts in order; ["*"] if it names none."""
    where = f"{text}: field {position}, {field.name}"
    values: set[int] = set()
    special: list[str] = []
    items = word.split(",")
    for item in items:
        if re.fullmatch(field.special, item):
            special.append(item)
        elif item == "?" and field.name in ("day of month", "weekday"):
            return ["*"]
        else:
            values.update(_read_item(where, field, item))
    if "*" in items or "*/1" in items:
        return ["*"]
    if special and (values or len(special) > 1) and any(item.endswith("w") for item in special):
        raise ConfigError(f"{where}: {word!r}: a day such as 15w can't be one of a list")
    if field.name == "weekday":
        values = {value % 7 for value in values}
    return [*map(str, sorted(values)), *special]


def _read_item(where: str, field: _Field, item: str) -> range | list[int]:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise ConfigError(f"{where}: {item!r} is not understood; it {field.takes()}")
    step = _step(where, field, found["step"])
    if found["any"]:
        last = 6 if field.name == "weekday" else field.highest  # a weekday of 7 is Sunday again
        return range(field.lowest, last + 1, step)
    first = _value(where, field, found["first"])
    if found["last"] is None:
        return range(first, field.highest + 1, step) if found["step"] else [first]
    last = _value(where, field, found["last"])
    if first <= last:
        return range(first, last + 1, step)
    around = 7 if field.name == "weekday" else field.highest - field.lowest + 1
    return [
        field.lowest + (value - field.lowest) % around
        for value in range(first, last + around + 1, step)
    ]


def _step(where: str, field: _Field, text: str | None) -> int:
    step = int(text or 1)
    if not 1 <= step <= field.highest:
        raise ConfigError(
            f"{where}: a step of {step} is not within 1-{field.highest}; for other intervals use "
            "every=timedelta(...)"
        )
    return step


def _value(where: str, field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.lowest
    if not re.fullmatch(r"[0-9]{1,2}", text):
        hint = suggest(text, field.names) or f"it {field.takes()}"
        raise ConfigError(f"{where}: {text!r} is not understood; {hint}")
    if not field.lowest <= int(text) <= field.highest:
        raise ConfigError(f"{where}: {text} is not within {field.lowest}-{field.highest}")
    return int(text)


def _all(values: list[str], count: int) -> tuple[int, ...]:
    return tuple(range(count)) if values == ["*"] else tuple(map(int, values))

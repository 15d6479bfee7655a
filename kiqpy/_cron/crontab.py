"""What a cron expression says: its fields read strictly, and every error names the field."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kiqpy.errors import ConfigError, suggest

_NICKNAMES: Final = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_ITEM: Final = re.compile(r"(?:(?P<any>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")
_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    """What one field takes; `special` is what goes to croniter as it is."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    special: str = "(?!)"

    def takes(self) -> str:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"takes {self.least}-{self.most}{names}, *, a-b, */n, and lists of them (a,b)"


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, special=r"l|([1-9]|[12]\d|3[01])w"),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _DAYS, special=r"l[0-7]|([0-7]|sun|mon|tue|wed|thu|fri|sat)#[1-5]"),
)


class Crontab(NamedTuple):
    """A cron expression, read: the times of a day, and croniter's text for the days."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: str  # day of month, month, weekday
    follows_clock: bool  # the hour field names no hours, so that each real hour counts


def read(text: str) -> Crontab:
    """The expression, checked. ConfigError names the field that is wrong and what it takes.

    Five fields (minute, hour, day of month, month, weekday), six with the second before them, or
    a nickname such as `@daily`.
    """
    words = _words(text)
    first = len(_FIELDS) - len(words)
    found = [
        _read_field(text, position, field, word)
        for position, (field, word) in enumerate(zip(_FIELDS[first:], words, strict=True), 1)
    ]
    seconds, minutes, hours = (*([["0"]] if first else []), *found)[:3]
    month_days, months, weekdays = found[-3:]
    if len(weekdays) == 7 or len(month_days) == 31:  # either will do, and one always does
        month_days = weekdays = ["*"]
    days = " ".join(",".join(values) for values in (month_days, months, weekdays))
    every_hour = "*" in words[-4] or "/" in words[-4] or len(hours) == 24
    return Crontab(_all(seconds, 60), _all(minutes, 60), _all(hours, 24), days, every_hour)


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
    """The values that a field names, as texts in order; ["*"] if it says nothing."""
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
        return range(field.least, field.most + (field.name != "weekday"), step)
    first = _value(where, field, found["first"])
    if found["last"] is None:
        return range(first, field.most + 1, step) if found["step"] else [first]
    last = _value(where, field, found["last"])
    if first <= last:
        return range(first, last + 1, step)
    around = 7 if field.name == "weekday" else field.most - field.least + 1
    return [
        field.least + (value - field.least) % around
        for value in range(first, last + around + 1, step)
    ]


def _step(where: str, field: _Field, text: str | None) -> int:
    step = int(text or 1)
    if not 1 <= step <= field.most:
        raise ConfigError(
            f"{where}: a step of {step} is not within 1-{field.most}; for other intervals use "
            "every=timedelta(...)"
        )
    return step


def _value(where: str, field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.least
    if not re.fullmatch(r"[0-9]{1,2}", text):
        hint = suggest(text, field.names) or f"it {field.takes()}"
        raise ConfigError(f"{where}: {text!r} is not understood; {hint}")
    if not field.least <= int(text) <= field.most:
        raise ConfigError(f"{where}: {text} is not within {field.least}-{field.most}")
    return int(text)


def _all(values: list[str], count: int) -> tuple[int, ...]:
    return tuple(range(count)) if values == ["*"] else tuple(map(int, values))

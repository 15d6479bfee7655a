"""Checks single values: each check returns the value for the option, or raises ConfigError.

The message names the option, shows the value, and says what to give instead.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, cast

from kiqpy.errors import ConfigError, suggest

Duration = float | timedelta
Instant = datetime | float
Check = Callable[[str, Any], Any]

MAX_DELAY_S: Final = 100 * 365 * 86_400.0  # event loops and servers overflow at longer delays
# Sidekiq's pages show names unescaped, and its metrics split them at a bar.
NOT_IN_NAMES: Final = re.compile(r"[<>|\x00-\x1f\x7f]")
_MAX_LANE_BYTES: Final = 200
MAX_COUNT: Final = 2**31 - 1  # of what can be counted; Redis and an event loop know no more
QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MAX_INSTANT: Final = 1e11  # epoch seconds; a time in milliseconds is larger


# -- text


@lru_cache(maxsize=4096)  # called for every job
def _is_queue(name: str) -> bool:
    return QUEUE_NAME.fullmatch(name) is not None


def queue_name(name: object) -> str:
    """The name of a queue, in characters that Sidekiq's web pages accept too."""
    if not isinstance(name, str) or not _is_queue(name):
        raise ConfigError(
            f"queue name {name!r}: use 1 to 128 of the characters A-Z a-z 0-9 _ . : -"
        )
    return name


def optional_queue(_name: str, value: object) -> str | None:
    return None if value is None else queue_name(value)


def lane_name(name: str, value: object) -> str:
    """The name of a lane: any text of some length that can be written in UTF-8."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f'{name}={value!r}: give a text that is not empty, such as "tenant-42"')
    size = len(value.encode(errors="replace"))
    if size > _MAX_LANE_BYTES:
        raise ConfigError(
            f"{name}={value[:20]!r}... has {size:,} bytes: give {_MAX_LANE_BYTES} at most, such as "
            "the key of a customer"
        )
    if not value.isprintable():
        raise ConfigError(f"{name}={value!r}: use characters that can be printed")
    return value


def optional_lane(name: str, value: object) -> str | None:
    return None if value is None else lane_name(name, value)


def folder(name: str, value: object) -> str:
    """The path of a folder."""
    if not isinstance(value, str | os.PathLike) or not str(cast("object", value)).strip():
        raise ConfigError(f"{name}={value!r}: give the path of a folder")
    return str(cast("object", value))


def text(name: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}={value!r}: give a text")
    return value


def optional_text(name: str, value: object) -> str | None:
    return None if value is None else text(name, value)


def matching(pattern: str, hint: str, *, optional: bool = True) -> Check:
    """A check: a text that matches `pattern` as a whole, or None."""

    def check(name: str, value: Any) -> Any:
        if value is None and optional:
            return value
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise ConfigError(f"{name}={value!r}: {hint}")
        return value

    return check


def one_of(*known: str | None) -> Check:
    """A check: one of the known words. The message names the nearest, or all."""
    words = [word for word in known if word is not None]

    def check(name: str, value: Any) -> Any:
        if any(value is word or (isinstance(value, str) and value == word) for word in known):
            return value
        hint = suggest(value, words) or f"give {_listed(words)}"
        raise ConfigError(f"{name}={value!r}: {hint}")

    return check


def _listed(words: Sequence[str]) -> str:
    *others, last = map(repr, words)
    return f"{', '.join(others)} or {last}" if others else last


# -- numbers


def count(name: str, value: object, *, least: int = 1) -> int:
    """A whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: give a whole number, {least} or more")
    if value > MAX_COUNT:
        raise ConfigError(f"{name}={value!r}: give a whole number, {MAX_COUNT} at most")
    return value


def optional_count(name: str, value: object) -> int | None:
    return None if value is None else count(name, value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: give True or False")
    return value


def retry_limit(name: str, value: object) -> bool | int:
    """True, False, or how many retries."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ConfigError(f"{name}={value!r}: give True (25 times), False, or a number of retries")
    return value


def optional_retry_limit(name: str, value: object) -> bool | int | None:
    return None if value is None else retry_limit(name, value)


def frames(name: str, value: object) -> bool | int:
    """How much of a traceback to keep: True, False, or a number of frames."""
    if isinstance(value, bool) or (isinstance(value, int) and 0 < value <= MAX_COUNT):
        return value
    raise ConfigError(f"{name}={value!r}: give True, False, or how many frames to keep")


def optional_frames(name: str, value: object) -> bool | int | None:
    return None if value is None else frames(name, value)


# -- time


def duration(name: str, value: object, *, least: float = 0.0) -> float:
    """Seconds from a number or a timedelta, `least` or more."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ConfigError(f"{name}={value!r}: give seconds (a number) or a timedelta")
    if value < least:
        raise ConfigError(f"{name}={value!r}: must be at least {least:g} seconds")
    if value > MAX_DELAY_S:
        raise ConfigError(f"{name}={value!r}: this is in seconds, and at most 100 years")
    return float(value)


def optional_duration(name: str, value: object, *, least: float = 0.0) -> float | None:
    """A duration, or None."""
    return None if value is None else duration(name, value, least=least)


def seconds(least: float, most: float) -> Check:
    """A check: a duration within bounds. For a longer one the message suggests milliseconds."""

    def check(name: str, value: Any) -> float:
        seconds = duration(name, value, least=least)
        if seconds > most:
            raise ConfigError(
                f"{name}={value!r}: this is in seconds, at most {most:g}; did you mean "
                f"{seconds / 1000:g}?"
            )
        return seconds

    return check


def time_limit(name: str, value: object) -> float | None:
    """How long something may take; None: without limit. 0 would end it before it begins."""
    limit_s = optional_duration(name, value)
    if limit_s == 0:
        raise ConfigError(f"{name}={value!r}: give more than 0 seconds, or None: without limit")
    return limit_s


def lock_time(name: str, value: object) -> float | None:
    """How long a lock is held, in seconds; None: the job takes no lock."""
    if value is None:
        return None
    return duration(name, value, least=0.001)


def instant(name: str, value: object) -> float:
    """Epoch seconds from an aware datetime or a number; naive datetimes are refused."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ConfigError(
                f"{name}={value!r} has no time zone: use datetime.now(timezone.utc) or add tzinfo"
            )
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}={value!r}: give an aware datetime or epoch seconds")
    if not 0 <= value < _MAX_INSTANT:
        raise ConfigError(f"{name}={value!r}: epoch seconds expected (is it milliseconds?)")
    return float(value)


# -- lists and functions


def items(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str | bytes | Mapping | type) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r}: give a list")
    return tuple(cast("Iterable[object]", value))


def sinks(name: str, value: object) -> tuple[Any, ...]:
    """A list of objects with `collect(kind, name, value, tags)`."""
    found = items(name, value)
    for sink in found:
        if isinstance(sink, type) or not callable(getattr(sink, "collect", None)):
            raise ConfigError(
                f"{name}: {sink!r} takes no measurements: give an object with "
                "collect(kind, name, value, tags)"
            )
    return found


def strings(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, str | Mapping) and isinstance(value, Iterable):
        found = tuple(cast("Iterable[object]", value))
        if all(isinstance(item, str) for item in found):
            return cast("tuple[str, ...]", found)
    raise ConfigError(f"{name}={value!r}: give a list of strings")


def functions(name: str, value: object) -> tuple[Any, ...]:
    """Functions of (job, error)."""
    found = items(name, value)
    for item in found:
        if not callable(item):
            raise ConfigError(f"{name}: {item!r} can't be called: give functions (job, error)")
        refuse_generator(f"{name}: {item!r}", item)
    return found


def key_function(name: str, value: object) -> object:
    """A plain function of a job's arguments, or None."""
    if value is not None and not callable(value):
        raise ConfigError(f"{name}={value!r}: give a function that takes what `perform` takes")
    if is_async(value):
        raise ConfigError(f"{name}={value!r}: give a plain function, it can't be awaited there")
    refuse_generator(f"{name}={value!r}", value)
    return value


def is_async(call: object) -> bool:
    """Whether a function, a partial of one, or an object with `__call__` is `async def`."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(_of_object(call))


def refuse_generator(what: str, call: object) -> None:
    """Raise ConfigError if a call would only make a generator, whose body never runs."""
    for found in (call, _of_object(call)):
        if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
            raise ConfigError(
                f"{what} is a generator, whose body would never run: remove `yield`, and return "
                "what it made"
            )


def takes(call: Callable[..., object], count: int) -> bool:
    """Whether it can be called with that many arguments by position."""
    try:
        inspect.signature(call).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def name_of(call: object) -> str | None:
    """The name of a function; None for partials and objects."""
    name = getattr(call, "__name__", None)
    return name if isinstance(name, str) else None


def _of_object(call: object) -> object:
    """`__call__` of a callable object, behind any partial; None for functions and classes."""
    while isinstance(call, functools.partial):
        call = call.func
    if inspect.isroutine(call) or inspect.isclass(call):
        return None
    return getattr(type(call), "__call__", None)  # noqa: B004


# -- the options that travel with a job, whoever says them: a worker, `using(...)` or `Job(...)`

TRAVELLING: Final[Mapping[str, Check]] = {
    "queue": lambda _name, value: queue_name(value),
    "retry": optional_retry_limit,
    "retry_for": optional_duration,
    "retry_queue": optional_queue,
    "lane": optional_lane,
    "dead": flag,
    "backtrace": optional_frames,
    "expires_in": optional_duration,
    "unique_for": lock_time,
    "unique_until": one_of("success", "start", "expiry"),
    "unique_across": one_of("queue", "class", "all"),
    "tags": strings,
}

"""Whether a value is what an option takes: each check returns it, or says how it is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from kiqpy._declare.options import duration
from kiqpy.errors import ConfigError


def count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r}: give a whole number, 1 or more")
    return value


def seconds(least: float, most: float) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        seconds = duration(name, value, least=least)
        if seconds > most:
            raise ConfigError(
                f"{name}={value!r}: this is in seconds, at most {most:g}; did you mean "
                f"{seconds / 1000:g}?"
            )
        return seconds

    return check


def optional_seconds(name: str, value: Any) -> float | None:
    return None if value is None else duration(name, value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: give True or False")
    return value


def matching(pattern: str, hint: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value is not None and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise ConfigError(f"{name}={value!r}: {hint}")
        return value

    return check


def one_of(*known: object) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in known:
            raise ConfigError(f"{name}={value!r}: give one of {', '.join(map(repr, known))}")
        return value

    return check


def items(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r}: give a list")
    return tuple(cast("Iterable[object]", value))

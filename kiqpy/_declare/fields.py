"""Checks the fields of a job that is made by hand: all that have a meaning to Sidekiq or kiqpy.

Options are checked like those of workers, by `TRAVELLING`. A field that is in no table belongs to
another program: it travels unchanged, if JSON can carry it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from kiqpy._declare.checks import NOT_IN_NAMES, TRAVELLING, Check, lock_time, strings
from kiqpy._declare.renamed import OPTION_HINTS, RENAMED_OPTIONS
from kiqpy._payload.arguments import fault_of
from kiqpy._payload.json import unpack_lines
from kiqpy.errors import ConfigError, suggest

_ATTRIBUTES: Final = re.compile(r"cattr_\d+")  # several of Rails' current attributes
_MIN_LIKENESS: Final = 0.84  # of an unknown field to a known one, to count as misspelt
_MAX_STAMP: Final = 1e14  # beyond all calendars, in milliseconds too


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or NOT_IN_NAMES.search(value):
        raise ConfigError(f"{name}={value!r}: give a name without <, >, | and control characters")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name}={value!r}: give a text that is not empty")
    return value


def _stamp(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < _MAX_STAMP:
        raise ConfigError(f"{name}={value!r}: give epoch seconds, or epoch milliseconds as an int")
    return cast("float", value)


def _count(name: str, value: Any) -> int:
    """-1 is allowed: an operator has asked for a retry before the first failure."""
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise ConfigError(f"{name}={value!r}: give a whole number, 0 or more")
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name}={value!r}: give a dict")
    found = cast("dict[str, Any]", value)
    _foreign(name, found)
    return found


def _backtrace(name: str, value: Any) -> Any:
    if not unpack_lines(value):
        raise ConfigError(
            f"{name}={value!r}: a failure writes it; to have it written, say backtrace=True"
        )
    return value


def _tags(name: str, value: Any) -> list[str]:
    return list(strings(name, value))


def _lock_time(name: str, value: Any) -> float | None:
    return value if value is False else lock_time(name, value)


def _foreign(name: str, value: Any) -> Any:
    if (fault := fault_of(value)) is not None:
        raise ConfigError(f"{name}={_short(value)} {fault}")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_HISTORY: Final[Mapping[str, Check]] = {
    "jid": _text,
    "created_at": _stamp,
    "enqueued_at": _stamp,
    "failed_at": _stamp,
    "retried_at": _stamp,
    "recovered_at": _stamp,
    "expires_at": _stamp,
    "unlocks_at": _stamp,
    "tick_at": _stamp,
    "lane_at": _stamp,
    "retry_count": _count,
    "recovered": _count,
    "error_class": _name,
    "error_message": _foreign,
    "error_backtrace": _backtrace,
    "unique_token": _text,
    "periodic": _text,
    "display_class": _name,
    "wrapped": _name,
    "cattr": _object,
    "kiq": _object,
}
_OF_JOBS: Final[Mapping[str, Check]] = {
    **TRAVELLING,
    **_HISTORY,
    "tags": _tags,
    "unique_for": _lock_time,
}
_USING: Final = "no payload has it: say it of the worker, or worker.using({}=...) of one job"
_WORKERS: Final = "no payload has it: say it of the worker, @worker({}=...)"
_ELSEWHERE: Final[Mapping[str, str]] = {
    "in_": "say in_s= (seconds), or enqueue(job, in_=...)",
    "at": "say at_s= (epoch seconds), or enqueue(job, at=...)",
    **{name: _USING.format(name) for name in ("timeout", "backoff")},
    **{
        name: _WORKERS.format(name)
        for name in ("name", "aliases", "executor", "unique_by", "max_concurrency", "codecs")
    },
}


def check_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as they travel, durations in seconds; fields of None are left out.

    Raises: ConfigError: for a wrong value, and for a name that must be meant as another one: an
    option of workers, a name from another library, or a misspelt one.
    """
    fields: dict[str, Any] = {}
    for name, value in given.items():
        check = _OF_JOBS.get(name)
        if check is None:
            _refuse_mistaken(name)
            fields[name] = _foreign(name, value)
        elif value is not None:
            fields[name] = check(name, value)
    return fields


def _refuse_mistaken(name: str) -> None:
    if name in _ELSEWHERE or name in OPTION_HINTS:
        raise ConfigError(f"Job({name}=...): {_ELSEWHERE.get(name) or OPTION_HINTS[name]}")
    if _ATTRIBUTES.fullmatch(name):
        return
    if meant := RENAMED_OPTIONS.get(name):
        hint = f"did you mean {meant!r}? {_ELSEWHERE.get(meant, '')}".rstrip()
    else:
        hint = suggest(name, (*_OF_JOBS, *_ELSEWHERE), _MIN_LIKENESS)
    if hint:
        raise ConfigError(f"unknown field {name!r} of a job; {hint}")

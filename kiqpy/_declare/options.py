"""What a worker may declare: one frozen table of options, checked when it is written down."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, cast

from kiqpy._record import Record
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill

LONGEST_S: Final = 1e10  # a duration beyond it is a mistake, and no server keeps it
When = float | timedelta | None
QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
Backoff = Callable[
    [int, BaseException, Job], "float | timedelta | Discard | Kill | type[Discard | Kill]"
]
ExecutorKind = Literal["async", "thread", "process"]
Until = Literal["success", "start", "expiry"]

_LATER: Final = {"local": "local jobs", "result_ttl": "results"}
_RENAMED: Final = {
    "max_retries": "retry", "max_attempts": "retry", "retries": "retry",
    "max_retry_count": "retry", "retry_at": "backoff", "max_backoff": "backoff",
    "unique_token": "unique_by", "delay_for": "in_", "failed_job_stacktrace_size": "backtrace",
    "queue_name": "queue", "priority": "queue", "time_limit": "timeout", "delay": "in_",
}  # fmt: skip


class Options(Record, kw_only=True):
    """A worker's options. Durations are seconds; None means "as the app says"."""

    queue: str = "default"
    retry: bool | int | None = None  # True: 25 times, False: never and not kept, 0: dead at once
    dead: bool = True  # keep the job in the dead set when its retries are used up
    backoff: str | Backoff | None = None
    retry_for: float | None = None  # retry for so long after the first failure, however often
    retry_queue: str | None = None  # where retries run; default: where the job ran
    backtrace: bool | int = False  # keep the error's stack, or that many of its frames
    timeout: float | None = None
    expires_in: float | None = None
    unique_for: float | None = None  # no second job like it for so long
    unique_until: Until = "success"
    unique_by: Callable[..., Any] | None = None  # of what `perform` gets; gives the key
    max_concurrency: int | None = None  # at a time in one process
    codecs: tuple[Any, ...] = ()  # types that may travel beyond JSON's own
    tags: tuple[str, ...] = ()
    name: str | None = None  # the class name on the wire; default: the worker's own
    aliases: tuple[str, ...] = ()  # former names, still understood
    executor: ExecutorKind | None = None  # default: async for `async def`, else thread


def options(given: Mapping[str, Any], base: Options | None = None) -> Options:
    """Options from what a user wrote, on top of `base`; ConfigError names the wrong one."""
    known = [field.name for field in fields(Options)]
    for name in given:
        refuse_unknown(name, known, _LATER, _RENAMED, "worker option")
    values: dict[str, Any] = {
        name: _CHECKS.get(name, _as_is)(name, value) for name, value in given.items()
    }
    inherited = {name: getattr(base, name) for name in known} if base else {}
    return _consistent(Options(**{**inherited, **values}), given)


def _consistent(made: Options, given: Mapping[str, Any]) -> Options:
    for name in ("unique_until", "unique_by"):
        if name in given and made.unique_for is None:
            raise ConfigError(f"{name} has no effect without unique_for: say for how long")
    return made


def refuse_unknown(
    name: str,
    known: Iterable[str],
    later: Mapping[str, str],
    renamed: Mapping[str, str],
    kind: str,
) -> None:
    """ConfigError for a name that is not in `known`, with the nearest that is."""
    known = list(known)
    if name in known:
        return
    if name in later:
        raise ConfigError(f"{kind} {name!r}: {later[name]} come in a later version of kiqpy")
    near = [renamed[name]] if name in renamed else difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(known))
    raise ConfigError(f"unknown {kind} {name!r}; {hint}")


@lru_cache(maxsize=4096)  # each job is asked for its queue's
def _is_queue(name: str) -> bool:
    return QUEUE_NAME.fullmatch(name) is not None


def queue_name(name: object) -> str:
    """`name`, if it can be a queue's: what Sidekiq's web pages can show, too."""
    if not isinstance(name, str) or not _is_queue(name):
        raise ConfigError(
            f"queue name {name!r}: use 1 to 128 of the characters A-Z a-z 0-9 _ . : -"
        )
    return name


def duration(name: str, value: object, *, least: float = 0.0) -> float:
    """Seconds from a number or a timedelta; ConfigError when negative or no duration."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ConfigError(f"{name}={value!r}: give seconds (a number) or a timedelta")
    if value < least:
        raise ConfigError(f"{name}={value!r}: must be at least {least:g} seconds")
    return float(value)


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
    if not 0 <= value < 1e11:
        raise ConfigError(f"{name}={value!r}: epoch seconds expected (is it milliseconds?)")
    return float(value)


def retry_limit(name: str, value: object) -> bool | int:
    """True, False, or how many retries."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name}={value!r}: give True (25 times), False, or a number of retries")
    return value


def _as_is(_name: str, value: object) -> object:
    return value


def _maybe_duration(name: str, value: object) -> float | None:
    return None if value is None else duration(name, value)


def _words(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r}: give a list of strings")
    words = tuple(cast("Iterable[object]", value))
    if not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{name}={value!r}: give a list of strings")
    return cast("tuple[str, ...]", words)


def _one_of(*known: str | None) -> Callable[[str, object], object]:
    words = [word for word in known if word is not None]

    def check(name: str, value: object) -> object:
        if value in known:
            return value
        near = difflib.get_close_matches(str(value), words, 1)
        hint = f"did you mean {near[0]!r}?" if near else "give " + " or ".join(map(repr, words))
        raise ConfigError(f"{name}={value!r}: {hint}")

    return check


def _frames(name: str, value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and value > 0):
        return value
    raise ConfigError(f"{name}={value!r}: give True, False, or how many frames to keep")


def _at_a_time(name: str, value: object) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigError(f"{name}={value!r}: give a whole number, 1 or more")


def _callable(name: str, value: object) -> object:
    if value is not None and not callable(value):
        raise ConfigError(f"{name}={value!r}: give a function that takes what `perform` takes")
    if inspect.iscoroutinefunction(value):
        raise ConfigError(f"{name}={value!r}: give a plain function, it can't be awaited there")
    return value


def _lock_time(name: str, value: object) -> float | None:
    if value is None:
        return None
    hold_s = duration(name, value, least=0.001)
    if hold_s > LONGEST_S:
        raise ConfigError(f"{name}={value!r}: at most {LONGEST_S:g} seconds")
    return hold_s


_CHECKS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "queue": lambda _name, value: queue_name(value),
    "retry": lambda name, value: None if value is None else retry_limit(name, value),
    "timeout": _maybe_duration,
    "expires_in": _maybe_duration,
    "tags": _words,
    "aliases": _words,
    "executor": _one_of("async", "thread", "process", None),
    "retry_for": _maybe_duration,
    "retry_queue": lambda _name, value: None if value is None else queue_name(value),
    "backtrace": _frames,
    "unique_for": _lock_time,
    "unique_until": _one_of("success", "start", "expiry"),
    "unique_by": _callable,
    "max_concurrency": _at_a_time,
    "codecs": lambda _name, value: tuple(value),
}

"""What a worker may declare: one frozen table of options, checked when it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final, Literal

from kiqpy._declare.checks import (
    Check,
    frames,
    key_function,
    lock_time,
    one_of,
    optional_count,
    optional_duration,
    optional_queue,
    optional_retry_limit,
    queue_name,
    strings,
)
from kiqpy._record import Record
from kiqpy.errors import ConfigError, suggest
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill

BackoffFunction = Callable[
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
    backoff: str | BackoffFunction | None = None
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
    hint = f"did you mean {renamed[name]!r}?" if name in renamed else suggest(name, known, 0.5)
    hint = hint or "known: " + ", ".join(sorted(known))
    raise ConfigError(f"unknown {kind} {name!r}; {hint}")


def _as_is(_name: str, value: object) -> object:
    return value


_CHECKS: Final[Mapping[str, Check]] = {
    "queue": lambda _name, value: queue_name(value),
    "retry": optional_retry_limit,
    "timeout": optional_duration,
    "expires_in": optional_duration,
    "tags": strings,
    "aliases": strings,
    "executor": one_of("async", "thread", "process", None),
    "retry_for": optional_duration,
    "retry_queue": optional_queue,
    "backtrace": frames,
    "unique_for": lock_time,
    "unique_until": one_of("success", "start", "expiry"),
    "unique_by": key_function,
    "max_concurrency": optional_count,
    "codecs": lambda _name, value: tuple(value),
}

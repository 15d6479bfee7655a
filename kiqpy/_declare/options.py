"""What a worker may declare: one frozen table of options, checked when it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from kiqpy._declare.checks import (
    TRAVELLING,
    Check,
    Duration,
    Instant,
    flag,
    items,
    key_function,
    one_of,
    optional_count,
    optional_text,
    strings,
    time_limit,
)
from kiqpy._declare.env import read_env
from kiqpy._record import Record
from kiqpy.errors import ConfigError, suggest
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill

BackoffFunction = Callable[
    [int, BaseException, Job], "float | timedelta | Discard | Kill | type[Discard | Kill]"
]
ExecutorKind = Literal["async", "thread", "process"]
Until = Literal["success", "start", "expiry"]
Across = Literal["queue", "class", "all"]

Persist = Literal["before", "alongside", "never"]

BackoffName = Literal["sidekiq", "kiq", "exq", "toniq", "queuetopia", "constant", "immediate"]

if TYPE_CHECKING:
    from kiqpy.codec import Codec

    class _JobOptions(TypedDict, total=False):
        queue: str
        """The queue its jobs go to, in which they also run."""

        retry: bool | int | None
        """How often a failed job is tried again. `None`: as the app says.

        `True`: 25 times. `False`: never, and the job is not kept. 0: never, the job is kept as
        dead.
        """

        retry_for: Duration | None
        """Try again for so long after the first failure, however often that is."""

        retry_queue: str | None
        """The queue in which retries run. `None`: where the job ran."""

        lane: str | None
        """The lane of a `BlockingQueues` in which its jobs run one after the other."""

        dead: bool
        """Whether a job is kept as dead when it has failed for the last time."""

        backtrace: bool | int | None
        """Whether the payload keeps the error's traceback, or that many of its frames.

        `None`: as the app says.
        """

        timeout: Duration | None
        """How long a job may run; then it is cancelled, and has failed. `None`: as the app says.

        A job in a thread cannot be interrupted: it keeps its slot until it ends.
        """

        expires_in: Duration | None
        """How long after it is due a job is still worth starting. `None`: for ever.

        Later it is not run, and ends with `job.aborted` and the reason `expired`.
        """

        unique_for: Duration | None
        """For how long no second job with the same arguments is enqueued. `None`: it may be.

        The second one's receipt says `duplicate`, and has the jid of the first.
        """

        unique_until: Until
        """What ends that before its time: success or death, the job's start, or nothing."""

        unique_across: Across
        """Which jobs with the same arguments, or the same answer of `unique_by`, are alike.

        `"queue"`: those of one worker in one queue. `"class"`: those of one worker, in all queues.
        `"all"`: those of all workers.
        """

        tags: Iterable[str]
        """Words that travel with the job and are shown beside it."""

    class WorkerOptions(_JobOptions, total=False):
        """The keywords of `@worker(...)` and `class Export(Worker, ...)`."""

        backoff: BackoffName | BackoffFunction | None
        """How long a failed job waits for its next try: a curve's name, or a function.

        The function gets (retries before this one, error, job) and returns seconds, a timedelta,
        `Discard` or `Kill`. `None`: as the app says.
        """

        unique_by: Callable[..., Any] | None
        """A plain function of what `perform` takes; jobs for which it returns the same are alike.

        `None`: jobs with equal arguments are.
        """

        max_concurrency: int | None
        """How many of the worker's jobs run at a time in one process. `None`: as the queue says."""

        local: bool
        """Whether its jobs run in the process that enqueues them, with Redis as their backup.

        Their queue is `local`, if no other is given; it must not be one of the app's `queues`.
        """

        persist: Persist
        """When a local job is written to Redis: before it begins, alongside, or never.

        What fails, and what has not begun at a stop, is written in any case.
        """

        codecs: Iterable[type | Codec[Any]]
        """Types that arguments may have beside JSON's own; see `Codec`."""

        name: str | None
        """The class name in payloads. `None`: the name of the function or class."""

        aliases: Iterable[str]
        """Former names, whose jobs are still understood."""

        executor: ExecutorKind | None
        """Where `perform` runs: in the event loop, in a thread, or in a child process.

        `None`: `async def` in the event loop, plain functions in a thread.
        """

    class UsingOptions(_JobOptions, total=False):
        """The keywords of `.using(...)`: what one job may have otherwise than its worker."""

        backoff: BackoffName | None
        """How long a failed job waits for its next try: a curve's name."""

        in_: Duration | None
        """How long from now the job is due."""

        at: Instant | None
        """When the job is due: an aware datetime, or epoch seconds."""


_LATER: Final = {"result_ttl": "results"}
_LOCAL_QUEUE: Final = "local"  # the queue of local jobs, unless another is given


class Options(Record, kw_only=True):
    """A worker's options, checked; durations in seconds. See `WorkerOptions` for each."""

    queue: str = "default"
    retry: bool | int | None = None
    retry_for: float | None = None
    retry_queue: str | None = None
    lane: str | None = None
    dead: bool = True
    backtrace: bool | int | None = None
    timeout: float | None = None
    expires_in: float | None = None
    unique_for: float | None = None
    unique_until: Until = "success"
    unique_across: Across = "queue"
    tags: tuple[str, ...] = ()
    backoff: str | BackoffFunction | None = None
    unique_by: Callable[..., Any] | None = None
    max_concurrency: int | None = None
    local: bool = False
    persist: Persist = "before"
    codecs: tuple[Any, ...] = ()
    name: str | None = None
    aliases: tuple[str, ...] = ()
    executor: ExecutorKind | None = None


def options(given: Mapping[str, Any], base: Options | None = None) -> Options:
    """Options from what a user wrote, on top of `base`; ConfigError names the wrong one."""
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            _refuse(name, known)
    values: dict[str, Any] = {
        name: _CHECKS.get(name, _as_is)(name, read_env(value)) for name, value in given.items()
    }
    inherited = {name: getattr(base, name) for name in known} if base else {}
    return _consistent(Options(**{**inherited, **values}), given)


def written_in(cls: type, base: type) -> dict[str, Any]:
    """The options among the attributes of a subclass of `base`, its mixins' too.

    Not those of its parents that are subclasses of `base` themselves: they have read their own.
    Raises: ConfigError: an attribute is surely meant to be an option, and is none.
    """
    known = [field.name for field in fields(Options)]
    parents = [each for each in cls.__bases__ if issubclass(each, base)]
    read = {each for parent in parents for each in parent.__mro__}
    found: dict[str, Any] = {}
    for each in reversed([each for each in cls.__mro__ if each not in read]):
        for name, value in vars(each).items():
            if name in known:
                found[name] = value.__func__ if isinstance(value, staticmethod) else value
            elif not hasattr(base, name) and _resembles(name, value, known):
                _refuse(name, known)
    return found


def _resembles(name: str, value: object, known: Iterable[str]) -> bool:
    """Whether an attribute of a worker's class is surely meant to be an option."""
    if name.startswith("_") or callable(value) or hasattr(value, "__get__"):
        return False
    from kiqpy._declare.renamed import surely_an_option

    return surely_an_option(name) or bool(suggest(name, known, 0.85))


def _refuse(name: str, known: Iterable[str]) -> None:
    from kiqpy._declare.renamed import OPTION_HINTS, RENAMED_OPTIONS  # not before it is wrong

    if name in OPTION_HINTS:
        raise ConfigError(f"unknown worker option {name!r}; {OPTION_HINTS[name]}")
    refuse_unknown(name, known, _LATER, RENAMED_OPTIONS, "worker option")


def _consistent(made: Options, given: Mapping[str, Any]) -> Options:
    for name in ("unique_until", "unique_across", "unique_by"):
        if name in given and made.unique_for is None:
            raise ConfigError(f"{name} has no effect without unique_for: say for how long")
    if made.persist != "before":
        if not made.local:
            raise ConfigError(
                f"persist={made.persist!r} has no effect without local=True: other jobs are in "
                "Redis before they run"
            )
        if made.unique_for is not None:
            raise ConfigError(
                f'unique_for needs persist="before", not {made.persist!r}: the lock of a unique '
                "job is in Redis"
            )
    if made.local and "queue" not in given and made.queue == "default":
        return replace(made, queue=_LOCAL_QUEUE)
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
    **TRAVELLING,
    "timeout": time_limit,
    "tags": strings,
    "aliases": strings,
    "executor": one_of("async", "thread", "process", None),
    "unique_by": key_function,
    "max_concurrency": optional_count,
    "local": flag,
    "persist": one_of("before", "alongside", "never"),
    "codecs": items,
    "name": optional_text,
}

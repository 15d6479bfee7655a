"""What an app works on: a queue with its limit, or queues that share one. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final, Literal, TypeGuard, cast

from kiqpy._declare.checks import (
    MAX_COUNT,
    QUEUE_NAME,
    Duration,
    count,
    duration,
    items,
    one_of,
    optional_count,
    queue_name,
    time_limit,
)
from kiqpy._declare.env import read_env
from kiqpy._declare.sources import ClaimSource, QueueSpec, SingleQueue, Sources
from kiqpy._record import Record
from kiqpy.errors import ConfigError

_PATTERN: Final = r"[A-Za-z0-9_.:*?-]{1,128}"
_check_mode: Final = one_of("strict", "weighted")


class Queue(SingleQueue, Record):
    """One queue, of which `concurrency` jobs run at a time: `queues={"mail": Queue(25)}`.

    The same as `queues={"mail": 25}`. `name` is the key there, and need not be given.
    """

    concurrency: int = 25
    name: str = "default"

    def source(self, sources: Sources) -> ClaimSource:
        """One queue."""
        return sources.in_turn([self.name])


@dataclass(frozen=True, eq=False)
class QueueGroup:
    """Queues of which `concurrency` jobs run at a time, in all.

    mode "strict": a queue is fetched from when those before it are empty. "weighted": a queue of
    weight 3 is asked first three times as often as one of weight 1. A name may be a pattern such
    as `tenant-*`: it stands for all queues of that name which have held a job.
    """

    queues: Sequence[str]
    concurrency: int = 25
    mode: Literal["strict", "weighted"] = "strict"
    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for part in ("queues", "concurrency", "mode", "weights"):
            object.__setattr__(self, part, read_env(getattr(self, part)))
        names = _listed(self.queues)
        object.__setattr__(self, "queues", names)
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(_PATTERN, name):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"QueueGroup: {name!r} is neither a queue name nor a pattern")
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"QueueGroup({list(names)}): give one or more queues, each once")
        if type(self.concurrency) is not int or not 1 <= self.concurrency <= MAX_COUNT:
            raise ConfigError(f"QueueGroup: concurrency={self.concurrency!r}: give 1 or more")
        _check_mode("QueueGroup: mode", self.mode)
        self._check_weights()

    def _check_weights(self) -> None:
        if not isinstance(self.weights, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f'QueueGroup: weights={self.weights!r}: give {{"critical": 3}}')
        if self.weights and self.mode != "weighted":
            raise ConfigError('QueueGroup: weights have no effect without mode="weighted"')
        for name, weight in self.weights.items():
            if name not in self.queues:
                raise ConfigError(f"QueueGroup: a weight is given for {name!r}, which is not in it")
            if type(weight) is not int or not 1 <= weight <= MAX_COUNT:
                raise ConfigError(f"QueueGroup: weights[{name!r}]={weight!r}: give 1 or more")

    def named(self) -> list[str]:
        """Its queues that are no patterns."""
        return [name for name in self.queues if QUEUE_NAME.fullmatch(name)]

    def patterns(self) -> list[str]:
        """The others."""
        return [name for name in self.queues if not QUEUE_NAME.fullmatch(name)]

    def matches(self, queue: str) -> bool:
        """Whether one of its patterns means this queue; other clients' odd names are left alone."""
        return QUEUE_NAME.fullmatch(queue) is not None and any(
            fnmatchcase(queue, pattern) for pattern in self.patterns()
        )

    def source(self, sources: Sources) -> ClaimSource:
        """All of its queues, asked in turn."""
        return sources.in_turn(self.named(), self.order(sources.clock.random))

    def order(self, rand: Callable[[], float]) -> Callable[[Sequence[str]], Iterable[str]]:
        """In which order to ask its queues, each time anew."""
        if self.mode == "strict":
            return lambda queues: sorted(queues, key=self._rank)
        # The greatest of rand ** (1 / weight) is drawn in proportion to the weights.
        return lambda queues: sorted(
            queues, key=lambda queue: rand() ** (1 / self._weight(queue)), reverse=True
        )

    def _rank(self, queue: str) -> tuple[int, str]:
        return self.queues.index(self._entry(queue)), queue

    def _weight(self, queue: str) -> int:
        return self.weights.get(self._entry(queue), 1)

    def _entry(self, queue: str) -> str:
        """The name or pattern by which a queue is in the group."""
        if queue in self.queues:
            return queue
        return next(pattern for pattern in self.patterns() if fnmatchcase(queue, pattern))


class BlockingQueues(SingleQueue):
    """A queue with lanes: `enqueue(job, lane="tenant-42")`. A lane is there once a job names it.

    Of each lane one job runs at a time, over all processes, in the order of their scheduled times,
    then of their arrival. A job that fails blocks its own lane until it succeeds or has failed for
    the last time, and no other. `concurrency` jobs run at a time in a process, of as many lanes.

    timeout: how long a job may run. None: as the app says.
    max_attempts: how often it runs at most.
    max_backoff: how long it waits for a retry at most.
    on_exhausted: after its last failure "skip" lets the next job of the lane run; "halt" lets none
        run until an operator resumes the lane.

    `timeout`, `retry` and `backoff` of a worker count more. Raises ConfigError.
    """

    def __init__(
        self,
        name: str,
        concurrency: int = 25,
        *,
        timeout: Duration | None = 60.0,
        max_attempts: int = 20,
        max_backoff: Duration = 86_400.0,
        on_exhausted: Literal["skip", "halt"] = "skip",
    ) -> None:
        self.name = queue_name(read_env(name))
        self.concurrency = count(_of(name, "concurrency"), read_env(concurrency))
        self.timeout = time_limit(_of(name, "timeout"), read_env(timeout))
        self.max_attempts = count(_of(name, "max_attempts"), read_env(max_attempts))
        self.max_backoff = duration(_of(name, "max_backoff"), read_env(max_backoff))
        self.halts = _check_end(_of(name, "on_exhausted"), on_exhausted) == "halt"

    def __repr__(self) -> str:
        return f"BlockingQueues({self.name!r}, {self.concurrency})"

    def source(self, sources: Sources) -> ClaimSource:
        """The heads of its lanes."""
        return sources.in_lanes(self.name)


_check_end: Final = one_of("skip", "halt")


def _of(name: object, option: str) -> str:
    """How a message names one of its options."""
    return f"BlockingQueues({name!r}): {option}"


def _listed(queues: object) -> tuple[str, ...]:
    if isinstance(queues, str):
        return (queues,)
    if not isinstance(queues, Iterable):
        raise ConfigError(f'QueueGroup({queues!r}): give ["critical", "default"]')
    return tuple(cast("Iterable[str]", queues))


# -- the options `queues` and `groups`

OF_EACH: Final = object()  # the option `concurrency`, when nothing is said
_OF_EACH_QUEUE: Final = 25


def queue_table(
    value: object, concurrency: object, most: int
) -> tuple[dict[str, int], list[QueueSpec]]:
    """The limits of the queues that are declared, and the groups that stand among them.

    `concurrency`: of each queue in a list, None for an open one. `most`: what open ones share
    with the others. Raises ConfigError.
    """
    plain, groups = _sorted_out(value)
    if concurrency is OF_EACH:
        concurrency = _OF_EACH_QUEUE
    elif isinstance(plain, Mapping):
        names = [*cast("Mapping[object, object]", plain)]
        raise ConfigError(
            f"concurrency={concurrency!r} has no effect on queues={plain!r}: give each its number "
            f"there, or list their names, queues={names!r}"
        )
    return _limits(_pairs(plain, concurrency), most), groups


def queue_groups(name: str, value: object) -> tuple[QueueSpec, ...]:
    """The option `groups`, each once."""
    found = items(name, value)
    for item in found:
        if not _is_group(item):
            raise ConfigError(f"{name}: {item!r} is no QueueGroup(...) or BlockingQueues(...)")
    return tuple(dict.fromkeys(found))


def _is_group(value: object) -> TypeGuard[QueueSpec]:
    return isinstance(value, QueueSpec) and not isinstance(value, Queue | type)


def _sorted_out(value: object) -> tuple[object, list[QueueSpec]]:
    """Queues of their own, and groups, which may stand among them."""
    if isinstance(value, Mapping):
        given = cast("Mapping[object, object]", value)
        groups = [item for item in given.values() if _is_group(item)]
        return {k: v for k, v in given.items() if not _is_group(v)}, groups
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        listed = list(cast("Iterable[object]", value))
        groups = [item for item in listed if _is_group(item)]
        return [item for item in listed if not _is_group(item)], groups
    return value, []


def _pairs(plain: object, concurrency: object) -> dict[Any, object]:
    if isinstance(plain, Mapping):
        return dict(cast("Mapping[object, object]", plain))
    if not isinstance(plain, list):
        raise ConfigError(f'queues={plain!r}: give {{"default": 25}} or ["default", "mail"]')
    names = cast("list[object]", plain)
    if any(isinstance(name, tuple) for name in names):
        raise ConfigError(f'queues={names!r}: names with limits are a dict, {{"mail": 5}}')
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"queue {twice[0]!r} is declared twice: name each queue once")
    return {queue_name(name): concurrency for name in names}


def _limits(pairs: Mapping[Any, object], most: int) -> dict[str, int]:
    limits = {queue_name(name): _limit(name, limit) for name, limit in pairs.items()}
    open_ = sum(limit is None for limit in limits.values())  # they share what the others leave
    share = max(1, (most - sum(filter(None, limits.values()))) // max(1, open_))
    return {name: share if limit is None else limit for name, limit in limits.items()}


def _limit(name: str, value: object) -> int | None:
    if isinstance(value, Queue):
        value = value.concurrency
    try:
        return optional_count(f"queues[{name!r}]", read_env(value))
    except ConfigError as error:
        raise ConfigError(f"{error}, or None: as many as max_running leaves") from None

"""What an app works on: a queue with its limit, or queues that share one. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Final, Literal, cast

from kiqpy._declare.checks import QUEUE_NAME, one_of
from kiqpy._declare.sources import ClaimSource, Sources
from kiqpy._record import Record
from kiqpy.errors import ConfigError

_PATTERN: Final = r"[A-Za-z0-9_.:*?-]{1,128}"
_check_mode: Final = one_of("strict", "weighted")


class Queue(Record):
    """One queue, of which `concurrency` jobs run at a time: `queues={"mail": Queue(25)}`.

    The same as `queues={"mail": 25}`. `name` is the key there, and need not be given.
    """

    shared: ClassVar[bool] = False
    concurrency: int = 25
    name: str = "default"

    @property
    def queues(self) -> Sequence[str]:
        """The queue."""
        return (self.name,)

    def named(self) -> list[str]:
        """The queue."""
        return [self.name]

    def patterns(self) -> list[str]:
        """None."""
        return []

    def matches(self, queue: str) -> bool:
        """Never: it has no pattern."""
        return False

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
        names = _listed(self.queues)
        object.__setattr__(self, "queues", names)
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(_PATTERN, name):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"QueueGroup: {name!r} is neither a queue name nor a pattern")
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"QueueGroup({list(names)}): give one or more queues, each once")
        if type(self.concurrency) is not int or self.concurrency < 1:
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
            if type(weight) is not int or weight < 1:
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


def _listed(queues: object) -> tuple[str, ...]:
    if isinstance(queues, str):
        return (queues,)
    if not isinstance(queues, Iterable):
        raise ConfigError(f'QueueGroup({queues!r}): give ["critical", "default"]')
    return tuple(cast("Iterable[str]", queues))

"""The protocols of a declaration of queues, and of the source of claims that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from kiqpy.clock import Clock
from kiqpy.job import Claim

Order = Callable[[Sequence[str]], Iterable[str]]


def strict(queues: Sequence[str]) -> Sequence[str]:
    """Always in the order given: the second queue when the first is empty."""
    return queues


class ClaimSource(Protocol):
    """Where the producer of one pipeline gets its claims.

    It knows a claim from `fetch` or `adopt` until `settled` or `reset`. It may keep claims back and
    return them from a later `fetch`; at a stop they go back to their queues.
    """

    queues: list[str]  # may grow while the source is in use

    async def fetch(self, limit: int) -> list[Claim]:
        """Claim up to `limit` jobs; more if an earlier fetch got no reply. 0: empty the inboxes.

        Raises: FetchPaused: no job was claimed, all queues are paused.  StoreError: no job was
        claimed.
        """
        ...

    async def wait(self, timeout_s: float) -> None:
        """Return when a `fetch` may bring a job. Cancel: safe; a wait claims nothing."""
        ...

    async def unwait(self) -> None:
        """End a `wait`; what it may have received goes back to its queue."""
        ...

    def claimed(self, queue: str) -> set[int]:
        """The deliveries of a queue that this source knows and that are not settled."""
        ...

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        """Take over claims that the store has on record; return those that were unknown."""
        ...

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        """Forget deliveries whose settling the store has confirmed."""
        ...

    def reset(self) -> None:
        """Forget all claims: the stages restart, and have returned what they held."""
        ...


class Sources(Protocol):
    """Makes sources on the store of a started app."""

    clock: Clock

    def in_turn(self, queues: Iterable[str], order: Order = strict) -> ClaimSource:
        """A source of several queues; each fetch asks them in this order until it has its limit."""
        ...

    def in_lanes(self, queue: str) -> ClaimSource:
        """A source of a queue with lanes: of each only its head."""
        ...


@runtime_checkable
class QueueSpec(Protocol):
    """One entry of the option `queues`, which gets one pipeline.

    `shared`: its queues share a limit, so none of them can be removed alone.
    """

    shared: ClassVar[bool]

    @property
    def queues(self) -> Sequence[str]:
        """Its names and patterns, as declared."""
        ...

    @property
    def concurrency(self) -> int:
        """How many of its jobs run at a time."""
        ...

    def named(self) -> list[str]:
        """The queues it names."""
        ...

    def patterns(self) -> list[str]:
        """Its patterns; queues that match one are added when they appear."""
        ...

    def matches(self, queue: str) -> bool:
        """Whether one of its patterns matches this queue."""
        ...

    def source(self, sources: Sources) -> ClaimSource:
        """A source of its claims, for one start."""
        ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class SingleQueue:
    """What a `QueueSpec` of one queue, its `name`, answers about names."""

    __slots__ = ()
    shared: ClassVar[bool] = False

    @property
    def queues(self: _Named) -> Sequence[str]:
        """The queue."""
        return (self.name,)

    def named(self: _Named) -> list[str]:
        """The queue."""
        return [self.name]

    def patterns(self) -> list[str]:
        """None."""
        return []

    def matches(self, queue: str) -> bool:
        """Never: it has no pattern."""
        return False

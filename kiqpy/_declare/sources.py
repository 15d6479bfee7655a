"""What a declaration of queues makes when the app starts: a source of claims."""

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
    """Where one pipeline's claims come from: what its producer asks.

    It knows a claim from `fetch` or `adopt` until `settled` or `reset`. It may keep claims of its
    own back, and hand them out at a later `fetch`; at a stop they go back to their queues.
    """

    queues: list[str]  # may grow while it is in use

    async def fetch(self, limit: int) -> list[Claim]:
        """Up to `limit` jobs, more if a lost fetch has left some. 0: only empty the inboxes.

        FetchPaused: there are none, and all queues are paused. StoreError: nothing was claimed.
        """
        ...

    async def wait(self, timeout_s: float) -> None:
        """Return when a `fetch` may bring a job. Cancel: safe, it owns nothing."""
        ...

    async def unwait(self) -> None:
        """End a `wait`; what it may have received goes back to its queue."""
        ...

    def claimed(self, queue: str) -> set[int]:
        """The deliveries of a queue that are known here and not settled."""
        ...

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        """Take in claims that the store has on record for this process; those that were unknown."""
        ...

    def settled(self, queue: str, deliveries: Iterable[int]) -> None:
        """Forget deliveries, whose settling the store has confirmed."""
        ...

    def reset(self) -> None:
        """Forget all: the stages start anew, and what they had in hand went back."""
        ...


class Sources(Protocol):
    """Makes sources on the store of a started app."""

    clock: Clock

    def in_turn(self, queues: Iterable[str], order: Order = strict) -> ClaimSource:
        """Several queues, asked in this order at each fetch until the limit is filled."""
        ...


@runtime_checkable
class QueueSpec(Protocol):
    """One entry of the option `queues`: what one pipeline works on.

    `shared`: its queues share a limit, so that none of them can be removed alone.
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
        """Patterns of further names; queues that match are taken in as they appear."""
        ...

    def matches(self, queue: str) -> bool:
        """Whether one of its patterns means this queue."""
        ...

    def source(self, sources: Sources) -> ClaimSource:
        """Its source of claims, made once for each start."""
        ...

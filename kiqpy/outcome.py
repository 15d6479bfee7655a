"""What happened to a job (Outcome), what becomes of it (Fate), what the store must do (Verdict).

Values only. What the store does besides, such as to free a lock, are a verdict's effects.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal, NamedTuple, Protocol, cast


class Signal(Exception):
    """Return it from `perform`, or raise it: both say the same."""


class Snooze(Signal):
    """Run the job again in `seconds` (or after a timedelta), without using up a retry."""

    def __init__(self, seconds: float | timedelta) -> None:
        super().__init__(seconds)
        in_s = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self.seconds = max(0.0, float(in_s))


class Discard(Signal):
    """End the job here: no retry, no dead set, event `aborted` with the reason."""

    def __init__(self, reason: str = "discarded") -> None:
        super().__init__(reason)
        self.reason = reason


class Kill(Signal):
    """Send the job to the dead set now, whatever retries it has left."""


def is_signal(result: object) -> bool:
    """Whether a result is a signal; the class is meant as its instance (`return Discard`)."""
    return isinstance(result, Signal) or (isinstance(result, type) and issubclass(result, Signal))


def signal_of(error: BaseException) -> Signal | None:
    """The error, if it is a signal, or what a group of nothing but signals says; else None.

    `Kill` counts more than `Discard`, `Discard` more than `Snooze`, and a longer `Snooze` more.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, Signal) else None
    inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
    signals = [found for found in map(signal_of, inner) if found is not None]
    return max(signals, key=_weight) if len(signals) == len(inner) else None


def _weight(signal: Signal) -> tuple[int, float]:
    if isinstance(signal, Snooze):
        return 0, signal.seconds
    return (2 if isinstance(signal, Kill) else 1), 0.0


class Success(NamedTuple):
    """`perform` returned."""

    result: object = None


class Failure(NamedTuple):
    """`perform` raised, timed out, or could not be called; `final` means no retry."""

    error: BaseException
    final: bool = False


class Aborted(NamedTuple):
    """The job was not run, or asked to end; it is done all the same."""

    reason: str


class Snoozed(NamedTuple):
    """The job asked to be run again later."""

    in_s: float


class Cancelled(NamedTuple):
    """Somebody cancelled the job: to the dead set, or gone if it is not to be kept."""

    keep: bool = True


class Released(NamedTuple):
    """The process stops: the job goes back to the head of its queue, uncounted."""


Outcome = Success | Failure | Aborted | Snoozed | Cancelled | Released
SUCCESS: Final = Success()
RELEASED: Final = Released()


class Lock(NamedTuple):
    """A unique job's lock: `token` names it, the job's own jid owns it.

    Not `owned`: its value names nobody (Kiq's); it is freed when the job ends, never extended.
    """

    token: str
    ttl_s: float
    owned: bool = True

    def owner(self, jid: str) -> str:
        """What the lock must hold for the job to free it: its jid; "" stands for any of Kiq's."""
        return jid if self.owned else ""


class Fate(NamedTuple):
    """What becomes of a job in one step of the store. Effects are chosen by it.

    `outcome`: how its run ended; None if its process died or an operator moved it. `in_s`: seconds
    until it is due, in the schedule and the retry set. `unlock`: an operator has asked that its
    lock be freed, whatever the lock is meant to wait for.
    """

    to: Literal["gone", "queue", "schedule", "retry", "dead"]
    by: Literal["run", "rescue", "operator"]
    outcome: Outcome | None = None
    in_s: float = 0.0
    unlock: bool = False


class KeyNames(Protocol):
    """How the keys of one server are named."""

    prefix: str

    def lock(self, token: str) -> str: ...


class Effect(Protocol):
    """What a store does besides when it settles, rescues or moves a job.

    It happens in the same atomic step, and only if the job was still where it was taken from. A
    new effect is a named tuple with these three members, a Lua function of that name
    (`store/redis/lua/effects/OP.lua`) and a function of the memory store (`memory/effects.py`).
    """

    @property
    def op(self) -> str:
        """The name of its functions."""
        ...

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        """The keys that it reads and writes."""
        ...

    def args(self) -> tuple[str | bytes | int | float, ...]:
        """What its Lua function is given beside the keys."""
        ...


class FreeLock(NamedTuple):
    """Free the lock of a unique job, if the job still has it."""

    lock: Lock
    jid: str

    @property
    def op(self) -> str:
        return "free_lock"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (names.lock(self.lock.token),)

    def args(self) -> tuple[str, ...]:
        return (self.lock.owner(self.jid),)


class ExtendLock(NamedTuple):
    """Let a unique job hold its lock until it is due, in `in_s`, and `ttl_s` longer.

    If the job still has it; a lock that would last longer anyway is left as it is.
    """

    lock: Lock
    jid: str
    in_s: float = 0.0

    @property
    def op(self) -> str:
        return "extend_lock"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (names.lock(self.lock.token),)

    def args(self) -> tuple[str, int]:
        return self.lock.owner(self.jid), int((self.in_s + self.lock.ttl_s) * 1000)


Effects = tuple[Effect, ...]


class Done(NamedTuple):
    """Forget the job; `failed` counts it as a failure too (`retry=False`, `dead=False`)."""

    delivery: int
    failed: bool = False
    effects: Effects = ()


class Retry(NamedTuple):
    """Into the retry set, due in `in_s` seconds of the store's clock.

    `trouble`: why the worker's own backoff could not be used.
    """

    delivery: int
    payload: bytes
    in_s: float
    effects: Effects = ()
    trouble: str = ""


class Defer(NamedTuple):
    """Into the schedule, due in `in_s` seconds, as if it had not run."""

    delivery: int
    payload: bytes
    in_s: float
    effects: Effects = ()


class Bury(NamedTuple):
    """Into the dead set."""

    delivery: int
    payload: bytes
    effects: Effects = ()


class Release(NamedTuple):
    """Back to the head of its queue, byte for byte; counts as nothing."""

    delivery: int
    effects: Effects = ()


Verdict = Done | Retry | Defer | Bury | Release

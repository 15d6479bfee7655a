"""How a run ended (Outcome), what becomes of the job (Fate), what the store must do (Verdict).

Values only. A verdict's effects are what the store does besides, such as freeing a lock.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal, NamedTuple, Protocol, cast


class Signal(Exception):
    """What `perform` may return or raise, with the same meaning."""


class Snooze(Signal):
    """Run the job again in `seconds`, a number or a timedelta, without using a retry."""

    def __init__(self, seconds: float | timedelta) -> None:
        super().__init__(seconds)
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not isinstance(seconds, timedelta) and (not number or seconds != seconds):
            raise TypeError(f"Snooze({seconds!r}): give seconds (a number) or a timedelta")
        in_s = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self.seconds = max(0.0, float(in_s))


class Discard(Signal):
    """End the job: no retry, not in the dead set; event `job.aborted` with the reason."""

    def __init__(self, reason: str = "discarded") -> None:
        super().__init__(reason)
        self.reason = reason


class Kill(Signal):
    """Move the job to the dead set now, even if it has retries left."""


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
    """`perform` raised, timed out, or could not be called. `final`: do not retry."""

    error: BaseException
    final: bool = False


class Aborted(NamedTuple):
    """The job did not run (expired, halted) or was discarded; it counts as done."""

    reason: str


class Snoozed(NamedTuple):
    """The job asked to run again later."""

    in_s: float


class Cancelled(NamedTuple):
    """The job was cancelled. `keep`: it goes to the dead set; else it is deleted."""

    keep: bool = True


class Released(NamedTuple):
    """The process stops: the job goes back to the head of its queue and counts as not run."""


Outcome = Success | Failure | Aborted | Snoozed | Cancelled | Released
SUCCESS: Final = Success()
RELEASED: Final = Released()


class Lock(NamedTuple):
    """The lock of a unique job. `token` names it; its value is the jid of the job that owns it.

    Not `owned`: Kiq has written it, without an owner. It is freed when the job ends, and never
    extended.
    """

    token: str
    ttl_s: float
    owned: bool = True

    def owner(self, jid: str) -> str:
        """The value that lets the job free the lock: its jid, or "" for any lock of Kiq's."""
        return jid if self.owned else ""


class Fate(NamedTuple):
    """What becomes of a job in one step of the store; rules choose effects by it.

    `outcome`: how its run ended; None if its process died or an operator moved
    it, unless to cancel it. `in_s`: seconds
    until it is due, in the schedule or the retry set. `unlock`: an operator wants its lock freed,
    whatever its `unique_until`. By "clock" it goes to its queue because it is due.
    """

    to: Literal["gone", "queue", "schedule", "retry", "dead"]
    by: Literal["run", "rescue", "operator", "clock"]
    outcome: Outcome | None = None
    in_s: float = 0.0
    unlock: bool = False


class KeyNames(Protocol):
    """The names of the keys of one server."""

    prefix: str

    def lock(self, token: str) -> str: ...

    def lane(self, queue: str, name: str) -> tuple[str, ...]: ...


class Effect(Protocol):
    """What a store does besides when it settles, rescues or moves a job.

    It happens in the same atomic step, and only if the job is still where it was. A new effect is a
    named tuple with these three members, a Lua function of that name
    (`store/redis/lua/effects/OP.lua`) and a function of the memory store (`memory/effects.py`).
    """

    @property
    def op(self) -> str:
        """The name of its two functions."""
        ...

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        """The keys that it reads and writes."""
        ...

    def args(self) -> tuple[str | bytes | int | float, ...]:
        """The further arguments of its Lua function."""
        ...


class FreeLock(NamedTuple):
    """Free the lock of a unique job, if the job still holds it."""

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
    """Extend the lock of a unique job to `ttl_s` after the job is due, in `in_s` seconds.

    Only if the job still holds it; never shortens it.
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


class TakeLock(NamedTuple):
    """Give a unique job its lock again, for `ttl_s` from now.

    A lock that another job holds is left alone; one that the job itself holds is never shortened.
    """

    lock: Lock
    jid: str

    @property
    def op(self) -> str:
        return "take_lock"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (names.lock(self.lock.token),)

    def args(self) -> tuple[str, int]:
        return self.lock.owner(self.jid), int(self.lock.ttl_s * 1000)


Effects = tuple[Effect, ...]


class Done(NamedTuple):
    """Delete the job. `failed`: count it as a failure too (`retry=False`, `dead=False`)."""

    delivery: int
    failed: bool = False
    effects: Effects = ()


class Retry(NamedTuple):
    """Move the job to the retry set, due in `in_s` seconds by the store's clock.

    `trouble`: why the worker's own backoff could not be used.
    """

    delivery: int
    payload: bytes
    in_s: float
    effects: Effects = ()
    trouble: str = ""


class Defer(NamedTuple):
    """Move the job to the schedule, due in `in_s` seconds; it counts as not run."""

    delivery: int
    payload: bytes
    in_s: float
    effects: Effects = ()


class Bury(NamedTuple):
    """Move the job to the dead set."""

    delivery: int
    payload: bytes
    effects: Effects = ()


class Release(NamedTuple):
    """Return the job's exact bytes to the head of its queue; it counts as not run."""

    delivery: int
    effects: Effects = ()


Verdict = Done | Retry | Defer | Bury | Release

"""What happened to a job (Outcome), and what the store must therefore do (Verdict). Values only."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple


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


class Done(NamedTuple):
    """Forget the job; `failed` counts it as a failure too (`retry=False`, `dead=False`)."""

    delivery: int
    failed: bool = False
    jid: str = ""
    lock: Lock | None = None


class Retry(NamedTuple):
    """Into the retry set, due in `in_s` seconds of the store's clock; keeps its lock.

    `trouble`: why the worker's own backoff could not be used.
    """

    delivery: int
    payload: bytes
    in_s: float
    jid: str = ""
    lock: Lock | None = None
    trouble: str = ""


class Defer(NamedTuple):
    """Into the schedule, due in `in_s` seconds, as if it had not run; keeps its lock."""

    delivery: int
    payload: bytes
    in_s: float
    jid: str = ""
    lock: Lock | None = None


class Bury(NamedTuple):
    """Into the dead set; frees its lock."""

    delivery: int
    payload: bytes
    jid: str = ""
    lock: Lock | None = None


class Release(NamedTuple):
    """Back to the head of its queue, byte for byte; counts as nothing."""

    delivery: int


Verdict = Done | Retry | Defer | Bury | Release

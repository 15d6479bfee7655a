"""Every error kiqpy raises: one root, and whose move it is in the type."""

from __future__ import annotations

from collections.abc import Iterable


class KiqError(Exception):
    """The root of all kiqpy errors."""


class ConfigError(KiqError, ValueError):
    """A declaration is wrong; the message names the option and the fix. Nothing was started."""


class LifecycleError(KiqError, RuntimeError):
    """The app is not started, is started twice, or lives in another event loop or process."""


class JobError(KiqError):
    """Something is wrong with one job."""


class DecodeError(JobError):
    """A payload is not a Sidekiq job; `raw` holds the bytes as they were found."""

    def __init__(self, reason: str, raw: bytes) -> None:
        super().__init__(reason)
        self.raw = raw


class ArgumentError(JobError, ValueError):
    """An argument can't travel as JSON, or does not fit `perform`; the message names it."""


class UnknownWorker(JobError, LookupError):
    """No declared worker has the class name that a job asks for."""


class BrokenChild(JobError):
    """The child process of a job ended before the job had, or could not be started."""


class StoreError(KiqError):
    """The store said no, or said nothing."""


class StoreUnavailable(StoreError):
    """No trustworthy answer arrived: try the same call again, nothing is lost by it."""


class LeaseLost(StoreUnavailable):
    """This process may not claim jobs until its next successful heartbeat."""


class FetchPaused(StoreError):
    """The queue is paused for the whole cluster: nothing was claimed."""


class StoreRefused(StoreError):
    """The store answered with a final no: trying again can't help, the message says why."""


class BufferFull(KiqError):
    """The client holds as much as it may; the job was not accepted and is still yours."""


def suggest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean 'x'?` with the known name that is nearest to `name`; "" if none is near.

    For the end of a message: `suggest(name, known) or "known: ..."`. Upper and lower case are
    alike; `cutoff` is how alike the rest must be, from 0 to 1.
    """
    from difflib import get_close_matches  # imported only once something is wrong

    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(str(name).lower(), by_lower, 1, cutoff)
    return f"did you mean {by_lower[near[0]]!r}?" if near else ""

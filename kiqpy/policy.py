"""The pure middle: a job and its outcome go in, what the store must do comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, assert_never

from kiqpy.errors import ConfigError
from kiqpy.job import Claim, Job, amend, seconds
from kiqpy.options import Backoff
from kiqpy.outcome import (
    Aborted,
    Bury,
    Defer,
    Discard,
    Done,
    Failure,
    Kill,
    Outcome,
    Release,
    Released,
    Retry,
    Snoozed,
    Success,
    Verdict,
)

Rand = Callable[[], float]

DEFAULT_RETRIES: Final = 25
POISON_STARTS: Final = 3  # more crashes than this within POISON_WINDOW_S: dead
POISON_WINDOW_S: Final = 72 * 3600.0
_LONGEST_S: Final = 100 * 365 * 86_400.0  # a delay of infinity would be refused by the server
_MESSAGE_CHARS: Final = 10_000  # Sidekiq's own limit


class Rules(NamedTuple):
    """How one worker's failures are treated."""

    retry: bool | int = True
    dead: bool = True
    backoff: str | Backoff = "sidekiq"


def sidekiq(count: int, rand: Rand) -> float:
    """Sidekiq's curve: 15 s, 16 s, 31 s, ... 25 retries in about three weeks."""
    return count**4 + 15 + int(rand() * 10) * (count + 1)


_BACKOFFS: Final[Mapping[str, Callable[[int, Rand], float]]] = {
    "sidekiq": sidekiq,
    "kiq": lambda n, rand: n**4 + 15 + 1 + int(rand() * 30) + n + 1,
    "exq": lambda n, rand: (n + 1) ** 4 + 15 + int(rand() * 31) * (n + 2),
    "toniq": lambda n, _rand: 0.25 * (n + 1) ** 4,
    "queuetopia": lambda n, _rand: min(2.0 ** min(n, 20) + 1, 86_400.0),
    "constant": lambda _n, _rand: 15.0,
    "immediate": lambda _n, _rand: 0.0,
}


def check_backoff(backoff: object) -> None:
    """ConfigError unless it names a known curve or can be called."""
    if not callable(backoff) and backoff not in _BACKOFFS:
        raise ConfigError(
            f"backoff={backoff!r}: give a callable(count, error, job) or one of "
            + ", ".join(sorted(_BACKOFFS))
        )


def decide(
    claim: Claim, job: Job | None, outcome: Outcome, rules: Rules, now: float, rand: Rand
) -> Verdict:
    """What must become of the claim. Pure: same values in, same verdict out; never raises.

    `job` is None when the bytes could not be read: they are buried as they are.
    """
    match outcome:
        case Success() | Aborted():
            return Done(claim.delivery)
        case Released():
            return Release(claim.delivery)
        case Snoozed(in_s):
            payload = amend(claim.raw, _home(claim, job), ("enqueued_at",)) if job else claim.raw
            return Defer(claim.delivery, payload, min(in_s, _LONGEST_S), job.jid if job else "")
        case Failure():
            if job is None:
                return Bury(claim.delivery, claim.raw)
            return _failed(claim, job, outcome, rules, now, rand)
        case _ as never:
            assert_never(never)


def _failed(
    claim: Claim, job: Job, failure: Failure, rules: Rules, now: float, rand: Rand
) -> Verdict:
    limit = _limit(job.payload.get("retry"), rules.retry)
    count = job.retry_count + 1
    if limit is None:
        return Done(claim.delivery, failed=True, jid=job.jid)
    fields = _failure_fields(job, failure.error, count, now)
    payload = amend(claim.raw, _home(claim, job) | fields)
    in_s = None if failure.final or count >= limit else _delay(rules, count, failure, job, rand)
    if isinstance(in_s, Discard):
        return Done(claim.delivery, failed=True, jid=job.jid)
    if in_s is not None:
        return Retry(claim.delivery, payload, min(in_s, _LONGEST_S), job.jid)
    if not rules.dead or job.payload.get("dead") is False:
        return Done(claim.delivery, failed=True, jid=job.jid)
    return Bury(claim.delivery, payload, job.jid)


def _home(claim: Claim, job: Job) -> dict[str, Any]:
    """Other clients may name no queue, or another: it comes back to the one it was found in."""
    return {} if job.payload.get("queue") == claim.queue else {"queue": claim.queue}


def _limit(asked: object, default: bool | int) -> int | None:
    """How many retries; None for none and no dead set (`retry: false`)."""
    value = asked if isinstance(asked, bool | int) else default if asked is None else True
    if value is False:
        return None
    return DEFAULT_RETRIES if value is True else value


def _delay(
    rules: Rules, count: int, failure: Failure, job: Job, rand: Rand
) -> float | Discard | None:
    """Seconds until the next try; None: no next try. A broken callable means the default."""
    if isinstance(rules.backoff, str):
        return float(_BACKOFFS[rules.backoff](count, rand))
    try:
        answer = rules.backoff(count, failure.error, job)
        if answer is Discard or isinstance(answer, Discard):
            return Discard()
        if answer is Kill or isinstance(answer, Kill):
            return None
        return max(0.0, float(answer))  # type: ignore[arg-type]  # junk raises, as it should
    except Exception:  # the user's function; its job must not pay for it
        return float(sidekiq(count, rand))


def _failure_fields(job: Job, error: BaseException, count: int, now: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "error_class": type(error).__name__,
        "error_message": message(error),
        "retry_count": count,
    }
    if seconds(job.payload.get("failed_at")) is None:
        fields["failed_at"] = now
    if count > 0:
        fields["retried_at"] = now
    return fields


def message(error: BaseException) -> str:
    """The error's own words: bounded, valid UTF-8, and there even when `str()` raises."""
    try:
        text = str(error)[:_MESSAGE_CHARS]
    except Exception:  # user code again
        return "(the error's message could not be read)"
    return text.encode("utf-8", "replace").decode()


def recover(raw: bytes, job: Job | None, now: float) -> tuple[bytes, bool]:
    """The payload of a job whose process died, and whether that happened too often.

    Count and time of the first crash travel in the payload, so that they survive everything
    the payload survives. A window of 72 h after that first crash the count starts again.
    """
    if job is None:
        return raw, False
    first = seconds(job.payload.get("recovered_at"))
    fresh = first is None or now - first > POISON_WINDOW_S
    count = 1 if fresh else job.recovered + 1
    fields: dict[str, Any] = {"recovered": count, "recovered_at": now if fresh else first}
    poison = count > POISON_STARTS
    if poison:
        fields["error_class"] = "kiqpy.Poison"
        fields["error_message"] = f"its process died {count} times within 72 h while it ran"
        fields["failed_at"] = now
        fields["retry_count"] = max(0, job.retry_count)
    return amend(raw, fields), poison

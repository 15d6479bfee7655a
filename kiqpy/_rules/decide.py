"""The pure middle: a job and its outcome go in, what the store must do comes out."""

from __future__ import annotations

from itertools import islice
from traceback import walk_tb
from typing import Any, Final, NamedTuple, assert_never

from kiqpy._declare.checks import MAX_DELAY_S, QUEUE_NAME
from kiqpy._declare.options import BackoffFunction
from kiqpy._payload.json import amend, pack_lines
from kiqpy._rules.backoff import Rand, class_name, delay, message, shown
from kiqpy._rules.unique import lock_of
from kiqpy.job import Claim, Job, seconds
from kiqpy.outcome import (
    Aborted,
    Bury,
    Cancelled,
    Defer,
    Discard,
    Done,
    Failure,
    Outcome,
    Release,
    Released,
    Retry,
    Snoozed,
    Success,
    Verdict,
)

DEFAULT_RETRIES: Final = 25
POISON_STARTS: Final = 3  # more crashes than this within POISON_WINDOW_S: dead
POISON_WINDOW_S: Final = 72 * 3600.0
MOST_FRAMES: Final = 1000  # of a backtrace: what runs into Python's recursion limit has as many


class Rules(NamedTuple):
    """How one worker's failures are treated."""

    retry: bool | int = True
    dead: bool = True
    backoff: str | BackoffFunction = "sidekiq"
    retry_for: float | None = None
    retry_queue: str | None = None
    backtrace: bool | int = False


def decide(
    claim: Claim, job: Job | None, outcome: Outcome, rules: Rules, now: float, rand: Rand
) -> Verdict:
    """What must become of the claim. Pure: same values in, same verdict out; never raises.

    `job` is None when the bytes could not be read: they are buried as they are.
    """
    if job is None or "unique_token" not in job.payload:
        lock = None
        if type(outcome) is Success:  # nearly all
            return Done(claim.delivery)
    else:
        lock = lock_of(job.payload, now)
    jid = job.jid if job is not None else ""
    match outcome:
        case Success() | Aborted():
            return Done(claim.delivery, jid=jid if lock else "", lock=lock)
        case Released():
            return Release(claim.delivery)
        case Snoozed(in_s):
            payload = amend(claim.raw, _home(claim, job), ("enqueued_at",)) if job else claim.raw
            return Defer(claim.delivery, payload, min(in_s, MAX_DELAY_S), jid, lock)
        case Cancelled(keep):
            if not keep:
                return Done(claim.delivery, jid=jid, lock=lock)
            return Bury(claim.delivery, _cancelled(claim, job, now), jid, lock)
        case Failure():
            if job is None:
                return Bury(claim.delivery, claim.raw)
            return _failed(claim, job, outcome, rules, now, rand)._replace(jid=job.jid, lock=lock)
        case _ as never:
            assert_never(never)


def _failed(
    claim: Claim, job: Job, failure: Failure, rules: Rules, now: float, rand: Rand
) -> Done | Retry | Bury:
    if _setting(job, "retry", rules.retry) is False and not failure.final:
        return Done(claim.delivery, failed=True)
    count = job.retry_count + 1
    fields = _failure_fields(job, failure.error, count, now, rules)
    if not failure.final and not _exhausted(job, rules, count, now):
        in_s, trouble = delay(rules.backoff, count, failure.error, job, rand)
        if isinstance(in_s, Discard):
            return Done(claim.delivery, failed=True)
        if in_s is not None:
            payload = amend(claim.raw, _retry_home(claim, job, rules) | fields)
            return Retry(claim.delivery, payload, min(in_s, MAX_DELAY_S), trouble=trouble)
    if not rules.dead or job.payload.get("dead") is False:
        return Done(claim.delivery, failed=True)
    return Bury(claim.delivery, amend(claim.raw, _home(claim, job) | fields))


def _exhausted(job: Job, rules: Rules, count: int, now: float) -> bool:
    """Whether the last try has been made: by the clock if `retry_for` is set, else by number."""
    window = _setting(job, "retry_for", rules.retry_for)
    if isinstance(window, int | float) and not isinstance(window, bool):
        first = seconds(job.payload.get("failed_at"))
        return now - (now if first is None else first) > window
    limit = _setting(job, "retry", rules.retry)
    if limit is True or not isinstance(limit, int):
        limit = DEFAULT_RETRIES
    return count >= limit


def _setting(job: Job, name: str, default: Any) -> Any:
    """What the payload says, which is the caller's word, else what the worker declares."""
    value = job.payload.get(name)
    return default if value is None else value


def _home(claim: Claim, job: Job | None) -> dict[str, Any]:
    """Other clients may name no queue, or another: it comes back to the one it was found in."""
    if job is None:
        return {}
    return {} if job.payload.get("queue") == claim.queue else {"queue": claim.queue}


def _retry_home(claim: Claim, job: Job, rules: Rules) -> dict[str, Any]:
    """Retries may have a queue of their own."""
    named = _setting(job, "retry_queue", rules.retry_queue)
    if isinstance(named, str) and QUEUE_NAME.fullmatch(named):
        return {"queue": named}
    return _home(claim, job)


def _cancelled(claim: Claim, job: Job | None, now: float) -> bytes:
    if job is None:
        return claim.raw
    fields = {
        "error_class": "kiqpy.Cancelled", "error_message": "cancelled",
        "failed_at": now, "retry_count": max(0, job.retry_count),
    }  # fmt: skip
    return amend(claim.raw, _home(claim, job) | fields)


def _failure_fields(
    job: Job, error: BaseException, count: int, now: float, rules: Rules
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "error_class": class_name(error),
        "error_message": message(error),
        "retry_count": count,
    }
    if seconds(job.payload.get("failed_at")) is None:
        fields["failed_at"] = now
    if count > 0:
        fields["retried_at"] = now
    if keep := _setting(job, "backtrace", rules.backtrace):
        fields["error_backtrace"] = pack_lines(_frames(error, keep))
    return fields


def _frames(error: BaseException, keep: object) -> list[str]:
    """The stack, innermost frame first as in Ruby."""
    most = keep if isinstance(keep, int) and keep is not True else MOST_FRAMES
    # Not traceback.extract_tb: it reads every source file.
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    kept = islice(reversed(frames), min(max(0, most), MOST_FRAMES))
    return [shown(f"{code.co_filename}:{line}:in `{code.co_name}'") for code, line in kept]


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

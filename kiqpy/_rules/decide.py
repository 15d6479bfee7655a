"""Decides what the store must do with a job, from how its run ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, assert_never

from kiqpy._declare.checks import MAX_DELAY_S, QUEUE_NAME
from kiqpy._declare.options import BackoffFunction
from kiqpy._payload.json import amend, pack_lines
from kiqpy._rules.backoff import (
    Rand,
    class_name,
    default_retries,
    delay,
    longest_delay,
    message,
)
from kiqpy._rules.dead import dead_fields
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf, choose_effects
from kiqpy._rules.portable import buried, handed_on
from kiqpy.errors import DecodeError
from kiqpy.job import Claim, Job, decode, seconds
from kiqpy.outcome import (
    Aborted,
    Bury,
    Cancelled,
    Defer,
    Discard,
    Done,
    Failure,
    Fate,
    Outcome,
    Release,
    Released,
    Retry,
    Snoozed,
    Success,
    Verdict,
)

POISON_STARTS: Final = 3  # a job is poison after more crashes than this within POISON_WINDOW_S
POISON_WINDOW_S: Final = 72 * 3600.0


class Rules(NamedTuple):
    """The options of a worker that decide what happens after a failure. Durations in seconds."""

    retry: bool | int = True
    dead: bool = True
    backoff: str | BackoffFunction = "sidekiq"
    retry_for: float | None = None
    retry_queue: str | None = None
    backtrace: bool | int = False


def decide(
    claim: Claim,
    job: Job | None,
    outcome: Outcome,
    rules: Rules,
    now: float,
    rand: Rand,
    effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
) -> Verdict:
    """What the store must do with the claim. Pure; never raises.

    `job` None: the bytes of the claim are unreadable, and go to the dead set.
    """
    if job is None:
        return _decide(claim, job, outcome, rules, now, rand)
    for rule in effects_of:
        if rule.field in job.payload:
            break
    else:  # nearly all jobs have no effects, and nearly all succeed
        if type(outcome) is Success:
            return Done(claim.delivery)
        return _decide(claim, job, outcome, rules, now, rand)
    verdict = _decide(claim, job, outcome, rules, now, rand)
    effects = choose_effects(job, fate_of(verdict, outcome), now, effects_of)
    return verdict._replace(effects=effects)


def fate_of(verdict: Verdict, outcome: Outcome) -> Fate:
    """What becomes of a job that has run, by this verdict."""
    match verdict:
        case Done():
            return Fate("gone", "run", outcome)
        case Retry(in_s=in_s):
            return Fate("retry", "run", outcome, in_s)
        case Defer(in_s=in_s):
            return Fate("schedule", "run", outcome, in_s)
        case Bury():
            return Fate("dead", "run", outcome)
        case Release():
            return Fate("queue", "run", outcome)
        case _ as never:
            assert_never(never)


def _decide(
    claim: Claim, job: Job | None, outcome: Outcome, rules: Rules, now: float, rand: Rand
) -> Verdict:
    match outcome:
        case Success() | Aborted():
            return Done(claim.delivery)
        case Released():
            return Release(claim.delivery)
        case Snoozed(in_s):
            return _snoozed(claim, job, in_s, rand)
        case Cancelled(keep):
            if not keep:
                return Done(claim.delivery)
            return Bury(claim.delivery, _cancelled(claim, job, now, rand))
        case Failure():
            if job is None:
                return Bury(claim.delivery, buried(claim.raw, claim.queue, now, rand))
            return _failed(claim, job, outcome, rules, now, rand)
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
            payload = handed_on(claim.raw, job, _retry_home(claim, job, rules) | fields, rand)
            if payload is None:
                return Bury(claim.delivery, claim.raw)
            in_s = min(in_s, longest_delay(job))
            return Retry(claim.delivery, payload, in_s, trouble=trouble)
    if not rules.dead or job.payload.get("dead") is False:
        return Done(claim.delivery, failed=True)
    payload = handed_on(claim.raw, job, _home(claim, job) | fields, rand)
    return Bury(claim.delivery, claim.raw if payload is None else payload)


def _snoozed(claim: Claim, job: Job | None, in_s: float, rand: Rand) -> Defer | Bury:
    """A job that Ruby cannot read goes to the dead set: Sidekiq's poller would lose it."""
    payload: bytes | None = claim.raw
    if job is not None:
        payload = handed_on(claim.raw, job, _home(claim, job), rand, drop=("enqueued_at",))
    if payload is None:
        return Bury(claim.delivery, claim.raw)
    return Defer(claim.delivery, payload, min(in_s, MAX_DELAY_S))


def _exhausted(job: Job, rules: Rules, count: int, now: float) -> bool:
    """Whether no attempt is left: by time if `retry_for` is set, else by number."""
    window = _setting(job, "retry_for", rules.retry_for)
    if isinstance(window, int | float) and not isinstance(window, bool):
        first = seconds(job.payload.get("failed_at"))
        return now - (now if first is None else first) > window
    limit = _setting(job, "retry", rules.retry)
    if limit is True or not isinstance(limit, int):
        limit = default_retries(rules.backoff, job)
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


def _cancelled(claim: Claim, job: Job | None, now: float, rand: Rand) -> bytes:
    if job is None:
        return buried(claim.raw, claim.queue, now, rand)
    fields = dead_fields(job, "Cancelled", "cancelled", now)
    payload = handed_on(claim.raw, job, _home(claim, job) | fields, rand)
    return claim.raw if payload is None else payload


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
        from kiqpy._rules.stack import backtrace  # when the first is wanted, not at each import

        fields["error_backtrace"] = pack_lines(backtrace(error, keep))
    return fields


def after_failure(
    job: Job, error: BaseException, verdict: Verdict, rules: Rules, now: float
) -> Job:
    """The job as its last failure has left it: with the fields that tell of it."""
    try:
        if isinstance(verdict, Bury):
            found = decode(verdict.payload)
        else:  # it is not kept
            fields = _failure_fields(job, error, job.retry_count + 1, now, rules)
            found = Job.from_payload({**job.payload, **fields})
    except DecodeError:
        return job
    found.over = found.told = True
    return found


def recover(raw: bytes, job: Job | None, now: float, rand: Rand) -> tuple[bytes, bool]:
    """The new payload of a job whose process died, and whether the job is poison.

    The payload keeps the number of crashes and the time of the first one; 72 h after it the count
    starts again.
    """
    if job is None:
        return raw, False
    first = seconds(job.payload.get("recovered_at"))
    fresh = first is None or now - first > POISON_WINDOW_S
    count = 1 if fresh else job.recovered + 1
    fields: dict[str, Any] = {"recovered": count, "recovered_at": now if fresh else first}
    if count <= POISON_STARTS:
        return amend(raw, fields, drop=("at",)), False
    died = f"its process died {count} times within 72 h while it ran"
    payload = handed_on(raw, job, fields | dead_fields(job, "Poison", died, now), rand)
    return raw if payload is None else payload, True

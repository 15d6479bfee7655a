"""One job: read, checked, called. Whatever it does becomes an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, final

from kiqpy._flow.backoff import Backoff
from kiqpy._stages.audience import Audience
from kiqpy._stages.consumer import Run
from kiqpy._stages.executor import Executor
from kiqpy._stages.settlement import Settlement
from kiqpy.backoff import timeout_of
from kiqpy.clock import Clock
from kiqpy.errors import DecodeError, StoreUnavailable
from kiqpy.event import JobStarted
from kiqpy.job import Job, decode
from kiqpy.middleware import Attempt
from kiqpy.outcome import (
    SUCCESS,
    Aborted,
    Cancelled,
    Discard,
    Failure,
    Kill,
    Outcome,
    Signal,
    Snooze,
    Snoozed,
    Success,
)
from kiqpy.policy import Rules
from kiqpy.registry import Registry
from kiqpy.store import Source
from kiqpy.unique import lock_until_start
from kiqpy.worker import Spec, enter_job


class Defaults(NamedTuple):
    """What the app says where a worker says nothing; what stands around every attempt."""

    rules: Rules = Rules()
    timeout_s: float | None = None
    around: Attempt | None = None
    context: Callable[[Job], None] | None = None  # called in the job's own context, before it


@final
class Performer:
    """Makes an outcome of a claim. Nothing escapes it but a cancellation that we asked for."""

    def __init__(
        self,
        registry: Registry,
        execute: Executor,
        store: Source,
        audience: Audience,
        clock: Clock,
        defaults: Defaults,
    ) -> None:
        self._registry, self._execute, self._store = registry, execute, store
        self._audience, self._clock, self._defaults = audience, clock, defaults
        self._rules: dict[Spec, Rules] = {}
        self._slots: dict[Spec, asyncio.Semaphore] = {}

    async def __call__(self, run: Run) -> Settlement:
        run.rules = self._defaults.rules
        try:
            job = run.job = decode(run.claim.raw)
            if (cancelled := self._cancelled(job)) is not None:
                return run.settlement(cancelled)
            spec = self._registry.find(job.class_)
            run.rules = self._rules.get(spec) or self._rules_of(spec)
            if spec.given.max_concurrency is None:
                outcome = await self._attempt(run, job, spec)
            else:
                async with self._slot(spec, spec.given.max_concurrency):
                    run.started = self._clock.monotonic()
                    outcome = await self._attempt(run, job, spec)
        except DecodeError as error:
            outcome = Failure(error, final=True)
        except GeneratorExit:
            raise
        except BaseException as error:  # SystemExit too: one job must not end the others
            if _is_our_cancel(error, run):
                raise
            outcome = _signalled(error)
        return run.settlement(outcome)

    async def _attempt(self, run: Run, job: Job, spec: Spec) -> Outcome:
        if (cancelled := self._cancelled(job)) is not None:  # while it waited for a slot
            return cancelled
        expires_at = job.expires_at
        if expires_at is not None and expires_at <= self._clock.now():
            return Aborted("expired")
        if "unique_until" in job.payload:
            await self._unlock(job)
        enter_job(job)
        if self._audience.hears(JobStarted):
            await self._audience.tell([JobStarted(job)])
        given, (_, timeout_s, around, context) = spec.given, self._defaults
        timeout_s = timeout_of(job, timeout_s if given.timeout is None else given.timeout)
        if timeout_s is not None:
            run.limit(timeout_s)
        if context is not None:
            context(job)
        if around is None:
            result = await self._execute(job, spec)
        else:
            result = await around(job, partial(self._execute, spec=spec))
        return SUCCESS if result is None else _returned(result)

    def _cancelled(self, job: Job) -> Cancelled | None:
        cancelled = self._store.cancelled
        keep = cancelled.pop(job.jid, None) if cancelled else None
        return None if keep is None else Cancelled(keep)

    async def _unlock(self, job: Job) -> None:
        """A job that is unique until it starts must not keep the next one out once it runs."""
        lock = lock_until_start(job.payload, self._clock.now())
        backoff = Backoff(self._clock)
        while lock is not None:
            try:
                return await self._store.unlock(job.jid, lock)
            except StoreUnavailable:
                await backoff.pause()

    def _slot(self, spec: Spec, most: int) -> asyncio.Semaphore:
        return self._slots.setdefault(spec, asyncio.Semaphore(most))

    def _rules_of(self, spec: Spec) -> Rules:
        given, default = spec.given, self._defaults.rules
        rules = self._rules[spec] = Rules(
            default.retry if given.retry is None else given.retry,
            given.dead,
            given.backoff or default.backoff,
            given.retry_for,
            given.retry_queue,
            given.backtrace,
        )
        return rules


def _is_our_cancel(error: BaseException, run: Run) -> bool:
    """A job may raise CancelledError by itself; then it is an error like any other."""
    return isinstance(error, asyncio.CancelledError) and run.why is not None


def _returned(result: object) -> Outcome:
    """`return Discard` is meant as `return Discard()`."""
    if isinstance(result, type) and issubclass(result, Discard | Kill):
        result = result()
    return _signalled(result) if isinstance(result, Signal) else Success(result)


def _signalled(error: BaseException) -> Outcome:
    match error:
        case Snooze():
            return Snoozed(error.seconds)
        case Discard():
            return Aborted(error.reason)
        case Kill():
            return Failure(error, final=True)
        case _:
            return Failure(error)

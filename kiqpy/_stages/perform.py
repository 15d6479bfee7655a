"""One job: read, checked, called. Whatever it does becomes an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, final

from kiqpy._flow.pause import Backoff
from kiqpy._registry import Registry
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.backoff import timeout_of
from kiqpy._rules.decide import Rules
from kiqpy._rules.unique import lock_until_start
from kiqpy._stages.consumer import Run
from kiqpy._stages.executor import Executor
from kiqpy.clock import Clock
from kiqpy.current import enter_job
from kiqpy.errors import DecodeError, StoreUnavailable
from kiqpy.event import JobStarted
from kiqpy.job import Job, decode
from kiqpy.middleware import Around
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
from kiqpy.store import Source
from kiqpy.worker import Spec


class Defaults(NamedTuple):
    """What the app says where a worker says nothing; what stands around every attempt."""

    rules: Rules = Rules()
    timeout_s: float | None = None
    around: Around | None = None
    context: Callable[[Job], None] | None = None  # called in the job's own context, before it


class Plan(NamedTuple):
    """What is the same for all jobs of one worker: found out once."""

    rules: Rules
    timeout_s: float | None
    slots: asyncio.Semaphore | None
    perform: Callable[[Job], Awaitable[Any]]  # with the middleware around it


@final
class Performer:
    """Makes an outcome of a claim. Nothing escapes it but a cancellation that we asked for."""

    def __init__(
        self,
        registry: Registry,
        executor: Executor,
        store: Source,
        audience: ReporterDispatcher,
        clock: Clock,
        defaults: Defaults,
    ) -> None:
        self._registry, self._executor, self._store = registry, executor, store
        self._audience, self._clock, self._defaults = audience, clock, defaults
        self._plans: dict[str, Plan] = {}
        self._slots: dict[Spec, asyncio.Semaphore] = {}

    async def __call__(self, run: Run) -> Outcome:
        run.rules, slots = self._defaults.rules, None
        try:
            job = run.job = decode(run.claim.raw)
            if (refused := self._refused(job)) is not None:
                return refused
            plan = self._plans.get(job.class_) or self._plan(job.class_)
            run.rules = plan.rules
            if plan.slots is not None:
                await plan.slots.acquire()
                slots, run.started = plan.slots, self._clock.monotonic()
                if (refused := self._refused(job)) is not None:  # while it waited
                    return refused
            if "unique_until" in job.payload:
                await self._unlock(job)
            enter_job(job)
            if self._audience.hears(JobStarted):
                await self._audience.tell([JobStarted(job)])
            self._enter(run, job, plan)
            result = await plan.perform(job)
            return SUCCESS if result is None else _returned(result)
        except GeneratorExit:
            raise
        except BaseException as error:  # SystemExit too: one job must not end the others
            if _is_our_cancel(error, run):
                raise
            return _signalled(error)
        finally:
            if slots is not None:
                slots.release()

    def _enter(self, run: Run, job: Job, plan: Plan) -> None:
        if (timeout_s := timeout_of(job, plan.timeout_s)) is not None:
            run.limit(timeout_s)
        if self._defaults.context is not None:
            self._defaults.context(job)

    def _refused(self, job: Job) -> Cancelled | Aborted | None:
        """Why the job is not to be run any more."""
        cancelled = self._store.cancelled
        if cancelled and (keep := cancelled.pop(job.jid, None)) is not None:
            return Cancelled(keep)
        if "expires_at" in job.payload:
            expires_at = job.expires_at
            if expires_at is not None and expires_at <= self._clock.now():
                return Aborted("expired")
        return None

    async def _unlock(self, job: Job) -> None:
        """A job that is unique until it starts must not keep the next one out once it runs."""
        lock = lock_until_start(job.payload, self._clock.now())
        backoff = Backoff(self._clock)
        while lock is not None:
            try:
                return await self._store.unlock(job.jid, lock)
            except StoreUnavailable:
                await backoff.pause()

    def _plan(self, name: str) -> Plan:
        spec = self._registry.find(name)
        given, (default, timeout_s, around, _) = spec.given, self._defaults
        rules = Rules(
            default.retry if given.retry is None else given.retry,
            given.dead,
            given.backoff or default.backoff,
            given.retry_for,
            given.retry_queue,
            given.backtrace,
        )
        slots: asyncio.Semaphore | None = None
        if given.max_concurrency is not None:  # of the worker, whatever its jobs call it
            slots = self._slots.setdefault(spec, asyncio.Semaphore(given.max_concurrency))
        timeout_s = timeout_s if given.timeout is None else given.timeout
        call = self._executor.runs(spec)
        perform = call if around is None else around(call)
        plan = self._plans[name] = Plan(rules, timeout_s, slots, perform)
        return plan


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
        case Kill() | DecodeError():
            return Failure(error, final=True)
        case _:
            return Failure(error)

"""One job: read, checked, called. Whatever it does becomes an outcome."""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

import anyio
import anyio.to_process
import anyio.to_thread

from kiqpy._flow.tree import whole
from kiqpy._stages.consumer import Run
from kiqpy._stages.settlement import Settlement
from kiqpy.clock import Clock
from kiqpy.errors import DecodeError
from kiqpy.job import Job, decode
from kiqpy.outcome import (
    SUCCESS,
    Aborted,
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
from kiqpy.worker import Spec, enter_job


@final
class Performer:
    """Makes an outcome of a claim. Nothing escapes it but a cancellation that we asked for."""

    def __init__(
        self,
        registry: Registry,
        defaults: Rules,
        timeout_s: float | None,
        clock: Clock,
        threads: int,
        processes: int,
        on_started: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self._registry, self._defaults, self._timeout_s = registry, defaults, timeout_s
        self._clock = clock
        self._threads = anyio.CapacityLimiter(threads)
        self._processes = anyio.CapacityLimiter(processes)
        self._on_started = on_started
        self._rules: dict[Spec, Rules] = {}

    async def __call__(self, run: Run) -> Settlement:
        run.rules = self._defaults
        try:
            job = run.job = decode(run.claim.raw)
            spec = self._registry.find(job.class_)
            run.rules = self._rules_of(spec)
            outcome = await self._attempt(run, job, spec)
        except DecodeError as error:
            outcome = Failure(error, final=True)
        except GeneratorExit:
            raise
        except BaseException as error:  # SystemExit too: one job must not end the others
            if _is_our_cancel(error, run):
                raise
            outcome = _signalled(error)
        return self._settlement(run, outcome)

    async def _attempt(self, run: Run, job: Job, spec: Spec) -> Outcome:
        expires_at = job.expires_at
        if expires_at is not None and expires_at <= self._clock.now():
            return Aborted("expired")
        enter_job(job)
        if self._on_started is not None:
            await self._on_started(job)
        timeout_s = spec.given.timeout if spec.given.timeout is not None else self._timeout_s
        if timeout_s is not None:
            run.limit(timeout_s)
        result = await self._call(job, spec)
        if result is None:
            return SUCCESS
        return _signalled(result) if isinstance(result, Signal) else Success(result)

    async def _call(self, job: Job, spec: Spec) -> Any:
        args, kwargs = spec.arguments(job.args)
        if spec.executor == "async":
            return await spec.target(job)(*args, **kwargs)
        if spec.executor == "process":
            call = partial(_in_child, *_address(spec), job.payload, args, kwargs)
            # Cancelled, it kills its child: of no other job, for a child has one job at a time.
            process = anyio.to_process.run_sync(call, cancellable=True, limiter=self._processes)
            return _returned(await process)
        # A thread can't be stopped. The run ends when the thread does, so its slot stays taken.
        call = partial(spec.target(job), *args, **kwargs)
        run = anyio.to_thread.run_sync(_contained, call, limiter=self._threads)
        return _returned(await whole(run))

    def _rules_of(self, spec: Spec) -> Rules:
        rules = self._rules.get(spec)
        if rules is None:
            given, default = spec.given, self._defaults
            rules = self._rules[spec] = Rules(
                default.retry if given.retry is None else given.retry,
                given.dead,
                given.backoff or default.backoff,
            )
        return rules

    def _settlement(self, run: Run, outcome: Outcome) -> Settlement:
        took_s = self._clock.monotonic() - run.started
        waited_s = None
        if run.job is not None and (enqueued_at := run.job.enqueued_at) is not None:
            waited_s = max(0.0, self._clock.now() - took_s - enqueued_at)
        return Settlement(run.claim, run.job, outcome, run.rules, took_s, waited_s)


def _is_our_cancel(error: BaseException, run: Run) -> bool:
    """A job may raise CancelledError by itself; then it is an error like any other."""
    return isinstance(error, asyncio.CancelledError) and run.why is not None


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


def _contained(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Runs in the thread or the child, neither of which a job may end, nor the event loop."""
    try:
        return call(), None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _returned(contained: tuple[Any, BaseException | None]) -> Any:
    result, error = contained
    if error is not None:
        raise error
    return result


def _address(spec: Spec) -> tuple[str, str]:
    """Where a child process finds the worker; from the declaration, never from Redis."""
    call = spec.owner or spec.call
    return call.__module__, call.__qualname__


def _in_child(
    module: str, name: str, payload: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Runs in the child: the same worker, found where it was declared.

    Ctrl-C reaches the whole foreground group; what it means for a job, the parent decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    job = Job.from_payload(payload)
    enter_job(job)
    return _contained(partial(found.spec.target(job), *args, **kwargs))

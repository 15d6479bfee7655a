"""One job: decoded, checked, let through the gates, performed. All of it becomes an outcome."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, final

from kiqpy._registry import Registry
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.backoff import timeout_of
from kiqpy._rules.decide import Rules
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.executor import Executor, Reserve
from kiqpy._stages.gates import Gate, JobCheck
from kiqpy.clock import Clock
from kiqpy.current import enter_job
from kiqpy.errors import DecodeError
from kiqpy.event import JobStarted
from kiqpy.job import Job, decode
from kiqpy.middleware import Around, Next
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
    is_signal,
    signal_of,
)

_RAILS_WRAPPERS: Final = frozenset(
    (
        "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper",  # Sidekiq 7 and before
        "Sidekiq::ActiveJob::Wrapper",
    )
)


class Defaults(NamedTuple):
    """What the app says where a worker says nothing."""

    rules: Rules = Rules()
    timeout_s: float | None = None


def _no_gates(_spec: Spec) -> tuple[Gate, ...]:
    return ()


class Steps(NamedTuple):
    """What stands before and around every attempt. `gates` is asked once for each worker."""

    checks: tuple[JobCheck, ...] = ()
    gates: Callable[[Spec], tuple[Gate, ...]] = _no_gates
    contexts: tuple[Callable[[Job], object], ...] = ()  # called in the job's own context
    around: Around | None = None


class Plan(NamedTuple):
    """What is the same for all jobs of one worker: found out once."""

    rules: Rules
    timeout_s: float | None
    gates: tuple[Gate, ...]
    reserve: Reserve | None  # gets what the call needs
    perform: Next  # with the middleware around it


@final
class Performer:
    """Makes an outcome of a claim. Nothing escapes it but a cancellation that we asked for."""

    def __init__(
        self,
        registry: Registry,
        executor: Executor,
        dispatcher: ReporterDispatcher,
        clock: Clock,
        defaults: Defaults,
        steps: Steps,
    ) -> None:
        self._registry = registry
        self._executor = executor
        self._dispatcher = dispatcher
        self._clock = clock
        self._defaults = defaults
        self._plans: dict[str, Plan] = {}
        self.recompose(steps)

    def recompose(self, steps: Steps) -> None:
        """Take other steps from the next job on."""
        self._steps = steps
        self._checks = steps.checks
        self._contexts = steps.contexts
        self._plans.clear()

    async def __call__(self, run: Run) -> Outcome:
        run.rules = self._defaults.rules
        try:
            job = run.job = decode(run.claim.raw)
            for check in self._checks:  # inline: a call is much for what nearly every job passes
                if (refused := check(job)) is not None:
                    return refused
            plan = self._plans.get(job.class_)
            if plan is None:
                job, plan = self._open(job)
            run.rules = plan.rules
            if plan.gates or plan.reserve is not None:
                refused = await self._let_through(run, job, plan)
                if refused is not None:
                    return refused
            enter_job(job)
            if self._dispatcher.has_listeners(JobStarted):
                await self._dispatcher.emit([JobStarted(job)])
            self._enter(run, job, plan)
            result = await plan.perform(job)
            return SUCCESS if result is None else _returned(await _awaited(result))
        except BaseException as error:  # SystemExit too: one job must not end the others
            return _raised(error, run)
        finally:
            if run.holds:
                run.let_go()

    async def _let_through(self, run: Run, job: Job, plan: Plan) -> Outcome | None:
        """The gates, then what the call needs; its time counts from then on."""
        for gate in plan.gates:
            if (answer := gate(run)) is not None:
                refused = await self._wait(run, job, answer)
                if refused is not None:
                    return refused
        if plan.reserve is not None and (turn := plan.reserve(run)) is not None:
            await turn
            run.started = self._clock.monotonic()
            return self._check_again(job)
        return None

    def _check_again(self, job: Job) -> Outcome | None:
        for check in self._checks:
            if (refused := check(job)) is not None:
                return refused
        return None

    def _enter(self, run: Run, job: Job, plan: Plan) -> None:
        if (timeout_s := timeout_of(job, plan.timeout_s)) is not None:
            run.limit(timeout_s)
        for enter in self._contexts:
            enter(job)

    async def _wait(
        self, run: Run, job: Job, answer: Outcome | Awaitable[Outcome | None]
    ) -> Outcome | None:
        """A gate's answer. After a wait the run begins anew, and so do the checks."""
        if not isinstance(answer, Awaitable):
            return answer
        run.step_aside()
        if (refused := await answer) is not None:
            return refused
        await run.step_back()
        run.started = self._clock.monotonic()
        return self._check_again(job)

    def _open(self, job: Job) -> tuple[Job, Plan]:
        """The job to perform and its plan; a job of Rails is unwrapped.

        If it fails, its wrapper is retried, so that Ruby can run it too.
        """
        if job.class_ in _RAILS_WRAPPERS:
            from kiqpy._payload.active_job import unwrapped  # deferred: costs memory without Rails

            name, args = unwrapped(job.payload)
            job = Job.from_payload({**job.payload, "class": name, "args": args})
        return job, self._plans.get(job.class_) or self._plan(job.class_)

    def _plan(self, name: str) -> Plan:
        spec = self._registry.find(name)
        given, steps = spec.given, self._steps
        default, timeout_s = self._defaults
        rules = Rules(
            retry=default.retry if given.retry is None else given.retry,
            dead=given.dead,
            backoff=given.backoff or default.backoff,
            retry_for=given.retry_for,
            retry_queue=given.retry_queue,
            backtrace=default.backtrace if given.backtrace is None else given.backtrace,
        )
        call = self._executor.runs(spec)
        if spec.executor != "async":
            call = _awaiting(call)
        plan = self._plans[name] = Plan(
            rules=rules,
            timeout_s=timeout_s if given.timeout is None else given.timeout,
            gates=steps.gates(spec),
            reserve=self._executor.reserves(spec),
            perform=call if steps.around is None else steps.around(call),
        )
        return plan


def _raised(error: BaseException, run: Run) -> Outcome:
    """What an error comes to that is being handled; raises it again if it is not the job's.

    A job may raise CancelledError by itself; then it is an error like any other.
    """
    ours = isinstance(error, asyncio.CancelledError) and run.why is not None
    if ours or isinstance(error, GeneratorExit):
        raise error
    return _signalled(signal_of(error) or error)


def _awaiting(call: Next) -> Next:
    """`call`, and what it answers awaited: the plain function may wrap an `async def`."""

    async def perform(job: Job) -> object:
        return await _awaited(await call(job))

    return perform


async def _awaited(result: object) -> object:
    """What the job comes to; TypeError for a generator, whose body nobody runs."""
    while inspect.isawaitable(result):
        result = await result
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"the job returned a generator, {result!r}, whose body nobody runs")
    return result


def _returned(result: object) -> Outcome:
    """`return Discard` is meant as `return Discard()`."""
    if result is Snooze:
        raise TypeError("the job returned the class Snooze: return Snooze(seconds)")
    if isinstance(result, type) and is_signal(result):
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

"""The ordered list of extensions that every app has, and the smallest of these extensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import final

from kiqpy._extensions.cancel import Cancelling
from kiqpy._extensions.expire import Expiring
from kiqpy._extensions.extension import Extension, Host, MakeExtension
from kiqpy._extensions.slots import WorkerSlots
from kiqpy._extensions.unique import UniqueJobs
from kiqpy._flow.loop import Loop
from kiqpy._loops.discover import Discoverer
from kiqpy._loops.leaks import LeakWatch
from kiqpy._reporting.bus import Handler
from kiqpy._reporting.death_hooks import DeathHooks
from kiqpy.job import Job
from kiqpy.middleware import ClientMiddleware, ServerMiddleware
from kiqpy.observe.log import Log, context
from kiqpy.reporter import Reporter


def extensions(more: Iterable[MakeExtension] = ()) -> list[MakeExtension]:
    """All extensions of an app, in order.

    The gates of `more` come after `max_concurrency`, their middleware before the app's own.
    """
    return [
        tracing,
        measuring,
        Logging,
        Cancelling,
        Expiring,
        WorkerSlots,
        *more,
        Declared,
        CallingDeathHooks,
        WatchingLeaks,
        Discovering,
        UniqueJobs,
        local_jobs,
    ]


def tracing(host: Host) -> Extension:
    """Spans of OpenTelemetry around enqueues and attempts, unless the app has switched them off."""
    if not host.config.tracing:
        return Extension(host)
    from kiqpy._extensions.tracing import TracingJobs  # only apps that start pay for it

    return TracingJobs(host)


def measuring(host: Host) -> Extension:
    """Metrics, for OpenTelemetry and for the app's own sinks."""
    from kiqpy._extensions.metrics import Measuring  # only apps that start pay for it

    return Measuring(host)


def local_jobs(host: Host) -> Extension:
    """Jobs that begin where they are enqueued, if a worker is declared so."""
    if not host.registry.local_queues():
        return Extension(host)
    from kiqpy._extensions.local.extension import LocalJobs  # few apps have such workers

    return LocalJobs(host)


@final
class Logging(Extension):
    """Log lines about jobs and other events; adds the job's fields to the lines that a job logs."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        config = host.config
        self._log = Log(
            start_level=config.start_log_level,
            done_level=config.done_log_level,
            fail_level=config.fail_log_level,
            slow_after=config.slow_after,
        )

    def contexts(self) -> Sequence[Callable[[Job], object]]:
        bind = context()
        return () if bind is None else (bind,)

    def reporters(self) -> Sequence[Reporter]:
        return (self._log,)

    def handlers(self) -> Sequence[tuple[str, Handler]]:
        return self._log.handlers()


@final
class Declared(Extension):
    """The middleware and the reporters that the app declares."""

    def client_middleware(self) -> Sequence[ClientMiddleware | type[object]]:
        return self.host.config.client_middleware

    def server_middleware(self) -> Sequence[ServerMiddleware | type[object]]:
        of_reporters = chain.from_iterable(r.middleware() for r in self.host.reporters)
        return (*of_reporters, *self.host.config.middleware)

    def reporters(self) -> Sequence[Reporter]:
        return self.host.reporters


@final
class CallingDeathHooks(Extension):
    """`on_exhausted` of workers and `death_handlers` of the app, after a job's last failure."""

    def reporters(self) -> Sequence[Reporter]:
        return (DeathHooks(self.host.registry, self.host.config.death_handlers),)


@final
class WatchingLeaks(Extension):
    """`leaked_tasks`: reports tasks that outlive their job, and cancels them if asked to."""

    def loops(self) -> Sequence[Loop]:
        how = self.host.config.leaked_tasks
        return () if how == "ignore" else (LeakWatch(how, self.host.bus.emit),)


@final
class Discovering(Extension):
    """Adds queues that match a declared pattern, as soon as they have held a job."""

    def loops(self) -> Sequence[Loop]:
        if not any(spec.patterns() for spec in self.host.config.specs()):
            return ()
        return (Discoverer(self.host.store.census, self.host.pipelines),)

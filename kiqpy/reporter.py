"""What users extend to hear what becomes of jobs: logging, statistics, an error tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from kiqpy._declare.checks import items, takes
from kiqpy.errors import ConfigError, suggest
from kiqpy.event import Event, JobAborted, JobFailure, JobStarted, JobStopped, JobSuccess
from kiqpy.job import Job
from kiqpy.middleware import ServerMiddleware

MetricKind = Literal["counter", "histogram", "gauge"]
Tags = Mapping[str, str]


class MetricsSink(Protocol):
    """Takes measurements, in the event loop of the app: it must be quick.

    What it raises is logged, and no job suffers.
    """

    def collect(self, kind: MetricKind, name: str, value: float, tags: Tags) -> object:
        """Take one measurement.

        `kind`: "counter": add `value`. "histogram": one more observation, in seconds. "gauge": what
        holds now. `name`: as in docs/observability.md, such as `messaging.process.duration`.
        `tags`: some of `queue`, `worker`, `error`, `set`; each has few values.
        """


class Reporter:
    """Subclass it and override what you want to hear; all methods may be async or not.

    A handler hears of an outcome after it is durable, in the order of one queue's outcomes, and in
    a task of its own. `limit` events may wait for it; then with `overflow="block"` jobs are fetched
    at the reporter's pace, with `"drop_oldest"` the oldest event is dropped and counted. After five
    errors in a row, or `stall_timeout` seconds in one handler, it is detached: no job suffers.
    With `batches`, `handle_many` is called instead of the other handlers.
    """

    limit: ClassVar[int] = 1000
    overflow: ClassVar[Literal["block", "drop_oldest"]] = "block"
    stall_timeout: ClassVar[float] = 5.0
    batches: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises: ConfigError: a method's name is nearly, but not, one of these."""
        super().__init_subclass__(**options)
        _check_names(cls)

    def start(self) -> object:
        """Called before the first event; what it raises keeps the app from starting."""

    def stop(self) -> object:
        """Called after the last event; what it raises, or `stall_timeout`, ends it and is told."""

    def handle_started(self, job: Job) -> object:
        """A run begins."""

    def handle_success(self, job: Job, meta: JobSuccess) -> object:
        """The job returned; `meta.took_s`, `meta.waited_s`."""

    def handle_aborted(self, job: Job, meta: JobAborted) -> object:
        """The job ended without having been done; `meta.reason`."""

    def handle_failure(self, job: Job, error: BaseException, meta: JobFailure) -> object:
        """The job failed; `meta.retry_in_s` is None when it will not be tried again."""

    def handle_stopped(self, job: Job) -> object:
        """A run is over, whichever way; comes last."""

    def handle_many(self, events: Sequence[Event]) -> object:
        """All that has happened since the last call, in order; what it raises is one error."""

    def middleware(self) -> Sequence[ServerMiddleware]:
        """What it wants around each attempt, outside the app's own middleware.

        Asked once, when the app starts. It is called while the attempt runs, unlike the handlers.
        """
        return ()

    def listens_to(self) -> frozenset[type[Event]]:
        """The kinds of events that it wants. Asked once, when the app starts.

        Unless overridden: those whose handler is overridden; with `batches`, all five.
        """
        if self.batches:
            return frozenset(_HANDLERS.values())
        mine = type(self)
        return frozenset(
            kind
            for name, kind in _HANDLERS.items()
            if getattr(mine, name) is not getattr(Reporter, name)
        )

    def handle(self, event: Event) -> object:
        """Call the handler for `event`; returns what it returns, maybe an awaitable."""
        match event:
            case JobStarted():
                return self.handle_started(event.job)
            case JobSuccess():
                return self.handle_success(event.job, event)
            case JobAborted():
                return self.handle_aborted(event.job, event)
            case JobFailure():
                return self.handle_failure(event.job, event.error, event)
            case JobStopped():
                return self.handle_stopped(event.job)
            case _:
                return None


def reporters(name: str, value: object) -> tuple[Any, ...]:
    """The option of that name: Reporter classes that need no arguments, and instances."""
    found = items(name, value)
    for item in found:
        kind: type = item if isinstance(item, type) else type(item)
        if not issubclass(kind, Reporter):
            raise ConfigError(f"{name}: {item!r} is no Reporter: subclass kiqpy.Reporter")
        if isinstance(item, type) and not takes(item, 0):
            raise ConfigError(f"{name}: {kind.__qualname__} needs arguments: give an instance")
    return found


def _check_names(kind: type[Reporter]) -> None:
    """ConfigError for what is surely meant to be a handler or an option, and is none."""
    options = ("stall_timeout", "overflow", "batches")
    known = (*_HANDLERS, "handle_many", "listens_to", "middleware", *options)
    for name in vars(kind):
        if name.startswith("_") or hasattr(Reporter, name):
            continue
        if near := suggest(name, known, 0.85):
            raise ConfigError(f"{kind.__qualname__}.{name} would never be called; {near}")


_HANDLERS: dict[str, type[Event]] = {
    "handle_started": JobStarted,
    "handle_success": JobSuccess,
    "handle_aborted": JobAborted,
    "handle_failure": JobFailure,
    "handle_stopped": JobStopped,
}

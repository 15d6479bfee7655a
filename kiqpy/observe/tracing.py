"""Spans of OpenTelemetry: one around each enqueue, one around each attempt of a job.

Only OpenTelemetry's API is used: the application chooses a tracer provider, and until it has set
one, no span is made. Names and attributes follow OpenTelemetry's conventions for messaging. The
context travels in the job's payload, in the fields that Ruby's instrumentation of Sidekiq writes
and reads (`traceparent`, `tracestate`, `baggage`).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, final

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from kiqpy.job import Job
from kiqpy.middleware import Next
from kiqpy.outcome import signal_of

Propagation = Literal["link", "parent", "none"]
Attributes = dict[str, str | int | float]

_SYSTEM: Final = "sidekiq"  # as Ruby's instrumentation says: both are on the same queues
_UNSET: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


@final
class Tracing:
    """Makes the spans of one app. `is_on`: the application has set a tracer provider."""

    def __init__(self, propagation: Propagation = "link") -> None:
        self.is_on = False
        self._propagation: Propagation = propagation
        self._provider: trace.TracerProvider | None = None
        self._tracer: trace.Tracer = trace.NoOpTracer()

    def look(self) -> bool:
        """Look whether the application has set a tracer provider meanwhile; see `is_on`."""
        provider = trace.get_tracer_provider()
        if provider is not self._provider:
            self._provider = provider
            self._tracer = provider.get_tracer("kiqpy")
            self.is_on = not isinstance(provider, _UNSET)
        return self.is_on

    # -- enqueuing

    @contextmanager
    def send(self, queue: str | None) -> Generator[Span]:
        """The span of an enqueue; what raises within it is the span's error.

        `queue`: None if the jobs are for several, or not known yet; see `say_batch`.
        """
        with self._tracer.start_as_current_span(
            f"send {queue}" if queue else "send",
            kind=SpanKind.PRODUCER,
            attributes=_attributes("send", queue),
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", _kind(error))
                raise

    def carrier(self) -> dict[str, str]:
        """What the current context adds to a payload."""
        carrier: dict[str, str] = {}
        if self._propagation != "none":
            propagate.inject(carrier)
        return carrier

    # -- performing

    async def process(self, job: Job, call_next: Next) -> object:
        """Server middleware: the span of one attempt, which the job's code is in.

        Its trace is its own, with a link to the span that enqueued the job; with "parent", a first
        attempt is a child of that span. Snooze, Discard and Kill are not errors.
        """
        origin = self._origin(job.payload)
        enqueued = trace.get_current_span(origin).get_span_context()
        is_child = self._propagation == "parent" and "retry_count" not in job.payload
        parent = origin if is_child else trace.set_span_in_context(trace.INVALID_SPAN, origin)
        span = self._tracer.start_span(
            f"process {job.queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=_attempt(job),
            links=[Link(enqueued)] if enqueued.is_valid and not is_child else (),
        )
        token = contexts.attach(trace.set_span_in_context(span, parent))
        try:
            return await call_next(job)
        except BaseException as error:
            if signal_of(error) is None:
                _fail(span, error)
            raise
        finally:
            contexts.detach(token)
            span.end()

    def _origin(self, payload: Mapping[str, Any]) -> contexts.Context:
        """The context that the payload carries; an empty one if it carries none, or rubbish."""
        if self._propagation == "none":
            return contexts.Context()
        fields = propagate.get_global_textmap().fields
        carrier = {name: payload[name] for name in fields if isinstance(payload.get(name), str)}
        return propagate.extract(carrier, contexts.Context())


def say_batch(span: Span, queues: Collection[str], count: int) -> None:
    """Say what a batch was, once its jobs are known; names the queue unless there are several."""
    span.set_attribute("messaging.batch.message_count", count)
    if len(queues) == 1:
        [queue] = queues
        span.update_name(f"send {queue}")
        span.set_attribute("messaging.destination.name", queue)


def _attributes(operation: str, queue: str | None) -> Attributes:
    found: Attributes = {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    return found | {"messaging.destination.name": queue} if queue else found


def _attempt(job: Job) -> Attributes:
    return _attributes("process", job.queue) | {
        "messaging.message.id": str(job.jid),
        "messaging.sidekiq.job_class": job.class_,
        "kiqpy.job.attempt": job.attempt,
    }


def _fail(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_attribute("error.type", _kind(error))
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:500]))


def _kind(error: BaseException) -> str:
    kind = type(error)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__

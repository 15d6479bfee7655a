"""Measurements of what happens, for whoever collects them: OpenTelemetry, statsd, a test.

An event becomes measurements, each with a few tags of few values: the queue, the worker, the kind
of error. No jid and no argument is ever a tag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, final

from kiqpy import event
from kiqpy._flow.once import Once
from kiqpy.clock import Clock
from kiqpy.event import Event
from kiqpy.job import Job
from kiqpy.reporter import MetricKind, MetricsSink, Tags

_log = logging.getLogger("kiqpy")


class Metric(NamedTuple):
    """What is measured; `unit` as UCUM writes it."""

    kind: MetricKind
    unit: str
    text: str


SENT: Final = "messaging.client.sent.messages"
CONSUMED: Final = "messaging.client.consumed.messages"
SEND_DURATION: Final = "messaging.client.operation.duration"
DURATION: Final = "messaging.process.duration"
WAIT: Final = "kiqpy.job.wait"
RECOVERED: Final = "kiqpy.jobs.recovered"
DEAD: Final = "kiqpy.jobs.dead"
LAG: Final = "kiqpy.loop.lag"
RECONNECTS: Final = "kiqpy.redis.reconnects"
CRON_LAG: Final = "kiqpy.cron.lag"
SLOTS_BUSY: Final = "kiqpy.slots.busy"
SLOTS_LIMIT: Final = "kiqpy.slots.limit"
BUFFERED: Final = "kiqpy.buffer.jobs"
DEPTH: Final = "kiqpy.queue.depth"
LATENCY: Final = "kiqpy.queue.latency"
SET_SIZE: Final = "kiqpy.set.size"

METRICS: Final[Mapping[str, Metric]] = {
    SENT: Metric("counter", "{message}", "Jobs enqueued by this process."),
    CONSUMED: Metric("counter", "{message}", "Attempts that have ended in this process."),
    SEND_DURATION: Metric("histogram", "s", "How long an enqueue took until it was confirmed."),
    DURATION: Metric("histogram", "s", "How long an attempt took."),
    WAIT: Metric("histogram", "s", "From enqueue, or from when it was due, to the attempt."),
    RECOVERED: Metric("counter", "{job}", "Jobs of dead processes put back into their queues."),
    DEAD: Metric("counter", "{job}", "Jobs that went to the dead set."),
    LAG: Metric("histogram", "s", "How long the event loop was blocked, each time it was."),
    RECONNECTS: Metric("counter", "{reconnect}", "Times the store answered again."),
    CRON_LAG: Metric("histogram", "s", "How late a periodic job was enqueued."),
    SLOTS_BUSY: Metric("gauge", "{slot}", "Jobs that run in this process."),
    SLOTS_LIMIT: Metric("gauge", "{slot}", "How many jobs may run in this process at a time."),
    BUFFERED: Metric("gauge", "{job}", "Enqueued jobs of this process that are not in Redis yet."),
    DEPTH: Metric("gauge", "{job}", "Jobs that wait in a queue; from one process of all."),
    LATENCY: Metric("gauge", "s", "How long a queue's oldest job has waited; from one process."),
    SET_SIZE: Metric("gauge", "{job}", "Jobs scheduled, to be retried, dead; from one process."),
}


class Measurement(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    tags: Tags


def _of_job(job: Job, **more: str) -> dict[str, str]:
    return {"queue": job.queue, "worker": job.class_, **more}


MEASURED: Final[Sequence[type[Event]]] = (
    event.JobEnqueued,
    event.JobSuccess,
    event.JobFailure,
    event.JobAborted,
    event.JobSnoozed,
    event.JobDead,
    event.JobRecovered,
    event.LoopLag,
    event.FlushRestored,
    event.PeriodicEnqueued,
)


def measured(happened: Event, now: float) -> Iterator[Measurement]:
    """What one of the events in `MEASURED` means in numbers, at `now` in epoch seconds."""
    match happened:
        case event.JobRecovered(queue=queue):
            yield Measurement(RECOVERED, 1, {"queue": queue})
        case event.LoopLag(lag_s=lag_s):
            yield Measurement(LAG, lag_s, {})
        case event.FlushRestored():
            yield Measurement(RECONNECTS, 1, {})
        case event.PeriodicEnqueued(tick_at=tick_at):
            yield Measurement(CRON_LAG, max(0.0, now - tick_at), {})
        case _:
            yield from _measured_of_job(happened)


def _measured_of_job(happened: Event) -> Iterator[Measurement]:
    match happened:
        case event.JobEnqueued(job=job):
            yield Measurement(SENT, 1, _of_job(job))
        case event.JobSuccess(job=job, took_s=took_s, waited_s=waited_s):
            yield from _attempt(_of_job(job), took_s)
            if waited_s is not None:
                yield Measurement(WAIT, waited_s, _of_job(job))
        case event.JobFailure(job=job, error=error, took_s=took_s):
            yield from _attempt(_of_job(job, error=type(error).__qualname__), took_s)
        case event.JobAborted(job=job) | event.JobSnoozed(job=job):
            yield Measurement(CONSUMED, 1, _of_job(job))
        case event.JobDead(job=job):
            yield Measurement(DEAD, 1, {} if job is None else _of_job(job))
        case _:
            return


def _attempt(tags: Tags, took_s: float) -> Iterator[Measurement]:
    yield Measurement(CONSUMED, 1, tags)
    yield Measurement(DURATION, took_s, tags)


@final
class Meter:
    """Passes measurements to every sink."""

    def __init__(self, sinks: Iterable[MetricsSink], clock: Clock) -> None:
        self._sinks = tuple(sinks)
        self._clock = clock
        self._errors = Once()

    def on_event(self, happened: Event) -> None:
        """A handler for the bus, for the events in `MEASURED`."""
        for measurement in measured(happened, self._clock.now()):
            self.collect(measurement)

    def collect(self, measurement: Measurement) -> None:
        """Pass one on. What a sink raises is logged, once for each kind of error."""
        name, value, tags = measurement
        for sink in self._sinks:
            try:
                sink.collect(METRICS[name].kind, name, value, tags)
            except Exception as error:
                if self._errors.first((type(sink), type(error))):
                    _log.exception("metrics: %r raised; it is not told again", sink)

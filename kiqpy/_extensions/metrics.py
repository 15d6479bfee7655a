"""Metrics as an extension: events are measured, and gauges by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, final

from kiqpy._declare.checks import Duration, Instant
from kiqpy._extensions.extension import Extension, Host
from kiqpy._flow.loop import Loop
from kiqpy._flow.thread import LoopThread
from kiqpy._intake.protocol import JobEnqueuer
from kiqpy._reporting.bus import Handler
from kiqpy.clock import Clock
from kiqpy.errors import StoreError
from kiqpy.job import Job
from kiqpy.observe import metrics
from kiqpy.observe.metrics import MEASURED, Measurement, Meter
from kiqpy.observe.otel_metrics import OpenTelemetrySink, real_provider
from kiqpy.receipt import Receipt
from kiqpy.reporter import MetricsSink

_GAUGES_S: Final = 15.0
_LOOK_S: Final = 5.0  # an application that sets its meter provider late waits so long for metrics
_FRESH_S: Final = 2.5 * _GAUGES_S
_GROUP: Final = "metrics"  # of the processes that elect who reports what all would report


@final
class Measuring(Extension):
    """Measures for the app's own sinks, and for OpenTelemetry if a meter provider is set.

    As long as there is neither, no event is made for it.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._has_otel = False
        self._sinks: list[MetricsSink] = [*host.config.metrics]
        self.meter = Meter(self._sinks, host.clock) if self._sinks else None
        self.look()

    def look(self) -> bool:
        """Look for a meter provider of the application; whether one was found just now."""
        provider = None if self._has_otel else real_provider()
        if provider is None:
            return False
        self._has_otel = True
        self._sinks.append(OpenTelemetrySink(provider, self.host.clock, _FRESH_S))
        self.meter = Meter(self._sinks, self.host.clock)
        return True

    def around_enqueuer(self, enqueuer: JobEnqueuer) -> JobEnqueuer:
        if self.meter is None:
            return enqueuer
        return TimedEnqueuer(enqueuer, self.meter, self.host.clock)

    def handlers(self) -> Sequence[tuple[str, Handler]]:
        if self.meter is None:
            return ()
        return tuple((kind.name, self.meter.on_event) for kind in MEASURED)

    def loops(self) -> Sequence[Loop]:
        return (Gauges(self, self.host),)


@final
class Gauges(Loop):
    """Measures what holds now. What is the same for all processes, one of them measures."""

    name = "metrics"
    on_clients = True

    def __init__(self, measuring: Measuring, host: Host) -> None:
        self._measuring = measuring
        self._host = host
        self._leads = False

    async def tick(self) -> float:
        if self._measuring.look():
            self._host.recompose()
        meter = self._measuring.meter
        if meter is None:
            return _LOOK_S
        for measurement in self._own():
            meter.collect(measurement)
        if self._host.config.server:
            self._leads = await self._host.store.calendar.lead(_FRESH_S, _GROUP)
            if self._leads:
                async for measurement in self._of_all():
                    meter.collect(measurement)
        return _GAUGES_S

    async def close(self) -> None:
        if self._leads:
            with suppress(StoreError):
                await self._host.store.calendar.resign(_GROUP)

    def _own(self) -> Iterator[Measurement]:
        """Of this process."""
        yield Measurement(metrics.BUFFERED, self._host.client.snapshot().buffered, {})
        if not self._host.config.server:
            return
        busy = Counter(run.claim.queue for run in self._host.pipelines.runs())
        for queue, limit in self._host.pipelines.subscriptions().items():
            yield Measurement(metrics.SLOTS_LIMIT, limit, {"queue": queue})
            yield Measurement(metrics.SLOTS_BUSY, busy[queue], {"queue": queue})

    async def _of_all(self) -> AsyncIterator[Measurement]:
        """Of all processes together."""
        census = self._host.store.census
        for row in await census.queues():
            yield Measurement(metrics.DEPTH, row.size, {"queue": row.name})
            if row.latency_s is not None:
                yield Measurement(metrics.LATENCY, row.latency_s, {"queue": row.name})
        sizes = await census.sizes(())
        for place in ("schedule", "retry", "dead"):
            yield Measurement(metrics.SET_SIZE, sizes[place], {"set": place})


@final
class TimedEnqueuer:
    """The ways in, and how long each call took until its jobs were confirmed."""

    def __init__(self, inner: JobEnqueuer, meter: Meter, clock: Clock) -> None:
        self._inner = inner
        self._meter = meter
        self._clock = clock

    @property
    def thread(self) -> LoopThread:
        return self._inner.thread

    @contextmanager
    def _timed(self) -> Generator[None]:
        began = self._clock.monotonic()
        tags = {}
        try:
            yield
        except BaseException as error:
            tags = {"error": type(error).__qualname__}
            raise
        finally:
            took = self._clock.monotonic() - began
            self._meter.collect(Measurement(metrics.SEND_DURATION, took, tags))

    async def one(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        with self._timed():
            return await self._inner.one(job, in_, at)

    def nowait(self, job: Job, in_: Duration | None, at: Instant | None) -> Receipt:
        return self._inner.nowait(job, in_, at)  # nothing is confirmed

    async def many(
        self, jobs: Iterable[Job], *, atomic: bool, progress: Callable[[int], object] | None
    ) -> list[Receipt]:
        with self._timed():
            return await self._inner.many(jobs, atomic=atomic, progress=progress)

"""Measurements as OpenTelemetry's instruments. Only its API is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation

from kiqpy.clock import Clock
from kiqpy.observe.metrics import METRICS
from kiqpy.reporter import MetricKind, Tags

_ATTRIBUTES: Final = {
    "queue": "messaging.destination.name",
    "worker": "messaging.sidekiq.job_class",
    "error": "error.type",
    "set": "kiqpy.set",
}
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_SYSTEM: Final = {"messaging.system": "sidekiq"}
_Series = tuple[tuple[str, str], ...]


def real_provider() -> metrics.MeterProvider | None:
    """The meter provider that the application has set, if it has."""
    provider = metrics.get_meter_provider()
    # Until one is set there is a proxy, whose class is private.
    is_proxy = type(provider).__module__.startswith("opentelemetry.metrics.")
    return None if is_proxy or isinstance(provider, NoOpMeterProvider) else provider


@final
class OpenTelemetrySink:
    """Counters and histograms as they come; a gauge is what it was when it was last measured.

    A gauge that was not measured for `fresh_s` seconds is reported no more: another process may
    have been elected to report it.
    """

    def __init__(self, provider: metrics.MeterProvider, clock: Clock, fresh_s: float) -> None:
        self._clock = clock
        self._fresh_s = fresh_s
        self._gauges: dict[str, dict[_Series, tuple[float, float]]] = {}  # value, measured at
        self._record: dict[str, Callable[[float, dict[str, str]], None]] = {}
        meter = provider.get_meter("kiqpy")
        for name in METRICS:
            self._make(meter, name)

    def _make(self, meter: metrics.Meter, name: str) -> None:
        kind, unit, text = METRICS[name]
        if kind == "counter":
            self._record[name] = meter.create_counter(name, unit, text).add
        elif kind == "histogram":
            self._record[name] = meter.create_histogram(
                name, unit, text, explicit_bucket_boundaries_advisory=_BUCKETS_S
            ).record
        else:
            self._gauges[name] = {}
            meter.create_observable_gauge(name, [partial(self._observe, name)], unit, text)

    def collect(self, kind: MetricKind, name: str, value: float, tags: Tags) -> None:
        """See `MetricsSink`."""
        attributes = _SYSTEM | {_ATTRIBUTES[tag]: text for tag, text in tags.items()}
        if kind == "gauge":
            series = tuple(attributes.items())
            self._gauges[name][series] = value, self._clock.monotonic()
        else:
            self._record[name](value, attributes)

    def _observe(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        """Runs in a thread of the SDK: works on a copy."""
        stale = self._clock.monotonic() - self._fresh_s
        found: Sequence[tuple[_Series, tuple[float, float]]] = list(self._gauges[name].items())
        for series, (value, measured_at) in found:
            if measured_at > stale:
                yield Observation(value, dict(series))

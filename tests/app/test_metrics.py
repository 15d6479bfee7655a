"""What is measured: for a sink of the app's own, and for the SDK of OpenTelemetry."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import _internal as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from kiqpy import App, Discard, Periodic, worker
from kiqpy.errors import ConfigError
from kiqpy.observe.metrics import METRICS
from kiqpy.observe.otel_metrics import OpenTelemetrySink
from kiqpy.reporter import MetricKind, Tags
from kiqpy.testing import FakeClock
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@worker
async def works() -> None: ...


@worker(retry=False, queue="mail")
async def fails() -> None:
    raise KeyError("nobody")


@worker(retry=0)
async def dies() -> None:
    raise OSError


@worker
async def discards() -> None:
    raise Discard("not needed")


class Jobs(App):
    queues = {"default": 5, "mail": 2}
    workers = (works, fails, dies, discards)


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.all: list[tuple[MetricKind, str, float, dict[str, str]]] = []

    def collect(self, kind: MetricKind, name: str, value: float, tags: Tags) -> None:
        self.all.append((kind, name, value, dict(tags)))

    def totals(self, name: str) -> Counter[tuple[tuple[str, str], ...]]:
        found: Counter[tuple[tuple[str, str], ...]] = Counter()
        for _, which, value, tags in self.all:
            if which == name:
                found[tuple(sorted(tags.items()))] += int(value)
        return found

    def last(self, name: str, **tags: str) -> float | None:
        values = [value for _, which, value, has in self.all if (which, has) == (name, tags)]
        return values[-1] if values else None


async def test_what_becomes_of_jobs_is_counted() -> None:
    sink = Sink()
    async with Jobs(metrics=[sink]).testing() as t:
        for each in (works, works, fails, dies, discards):
            await each.enqueue()
        await t.drain()

    def of(worker: str, queue: str = "default", **more: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted({"queue": queue, "worker": worker, **more}.items()))

    assert sink.totals("messaging.client.sent.messages") == {
        of("works"): 2,
        of("fails", "mail"): 1,
        of("dies"): 1,
        of("discards"): 1,
    }
    assert sink.totals("messaging.client.consumed.messages") == {
        of("works"): 2,
        of("fails", "mail", error="KeyError"): 1,
        of("dies", error="OSError"): 1,
        of("discards"): 1,
    }
    assert sink.totals("kiqpy.jobs.dead") == {of("dies"): 1}


async def test_durations_and_waits_are_in_seconds() -> None:
    sink = Sink()
    jobs = Jobs(metrics=[sink])
    async with jobs.testing() as t:
        await jobs.enqueue(works.new(), in_=60)
        await t.tick(61)
        await t.drain()
    took = [entry for entry in sink.all if entry[1] == "messaging.process.duration"]
    [(kind, _, seconds, tags)] = took
    assert kind == "histogram"
    assert 0 <= seconds < 5
    assert tags == {"queue": "default", "worker": "works"}
    [waited] = [value for _, name, value, _ in sink.all if name == "kiqpy.job.wait"]
    assert 0 <= waited < 5  # not from the enqueue, but from when it was due


async def test_every_measurement_is_of_a_metric_that_is_listed() -> None:
    sink = Sink()

    class Periodical(Jobs):
        periodics = (Periodic("* * * * *", works),)

    async with Periodical(metrics=[sink]).testing() as t:
        for each in (works, fails, dies, discards):
            await each.enqueue()
        await t.tick(120)
        await t.drain()
    names = {name for _, name, _, _ in sink.all}
    assert names <= METRICS.keys()
    assert all(METRICS[name].kind == kind for kind, name, _, _ in sink.all)
    assert METRICS.keys() - names == {
        "kiqpy.jobs.recovered",
        "kiqpy.loop.lag",
        "kiqpy.redis.reconnects",
    }


def test_the_page_lists_every_metric_with_its_kind_and_unit() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
    rows = [
        line.split("|") for line in page.splitlines() if line.startswith(("| `kiqpy.", "| `mess"))
    ]
    listed = {}
    for _, names, kind, *_ in rows:
        kinds = [k.strip() for k in kind.split(";")]
        for n, name in enumerate(re.findall(r"`([a-z_.]+)`", names)):
            listed[name] = kinds[min(n, len(kinds) - 1)]
    shown = {"s": ", s"}
    assert listed == {name: m.kind + shown.get(m.unit, "") for name, m in METRICS.items()}


async def test_gauges_say_what_waits_and_what_runs() -> None:
    sink = Sink()
    jobs = Jobs(metrics=[sink])
    async with jobs.testing() as t:
        await jobs.enqueue(works.new(), in_=3600)
        await dies.enqueue()
        await t.drain()
        await t.tick(30)
    assert sink.last("kiqpy.slots.limit", queue="default") == 5
    assert sink.last("kiqpy.slots.limit", queue="mail") == 2
    assert sink.last("kiqpy.slots.busy", queue="mail") == 0
    assert sink.last("kiqpy.queue.depth", queue="default") == 0
    assert sink.last("kiqpy.set.size", set="schedule") == 1
    assert sink.last("kiqpy.set.size", set="dead") == 1
    assert sink.last("kiqpy.set.size", set="retry") == 0
    assert sink.last("kiqpy.buffer.jobs") == 0


async def test_what_all_processes_share_one_of_them_reports(clean: TestServer) -> None:
    sinks = [Sink() for _ in range(3)]
    apps = [Jobs(redis_url=clean.url, metrics=[sink]) for sink in sinks]
    async with apps[0], apps[1], apps[2]:
        await eventually(
            lambda: all(s.last("kiqpy.slots.limit", queue="mail") for s in sinks), "own gauges"
        )
        await eventually(lambda: any(s.last("kiqpy.set.size", set="dead") == 0 for s in sinks), "")
    assert sum(s.last("kiqpy.set.size", set="dead") is not None for s in sinks) == 1


async def test_an_app_that_only_enqueues_counts_what_it_sends(clean: TestServer) -> None:
    sink = Sink()
    jobs = Jobs(redis_url=clean.url, metrics=[sink])
    async with jobs.client_only():
        await works.enqueue()
        await jobs.enqueue_many([works.new(), works.new()])
        await eventually(lambda: sink.last("kiqpy.buffer.jobs") == 0, "a gauge")
    assert sink.totals("messaging.client.sent.messages").total() == 3
    sends = [e for e in sink.all if e[1] == "messaging.client.operation.duration"]
    assert len(sends) == 2
    assert sink.last("kiqpy.set.size", set="dead") is None


async def test_a_sink_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self, kind: MetricKind, name: str, value: float, tags: Tags) -> None:
            raise RuntimeError("no room")

    sink = Sink()
    async with Jobs(metrics=[Broken(), sink]).testing() as t:
        await works.enqueue()
        await works.enqueue()
        assert (await t.drain()).done == 2
    assert sink.totals("messaging.client.consumed.messages").total() == 2
    told = [r for r in caplog.records if r.levelno == logging.ERROR and "Broken" in r.message]
    assert len(told) == 1


@pytest.mark.parametrize("wrong", [5, "statsd", [Sink], [object()], {"a": Sink()}])
def test_what_collects_nothing_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="metrics"):
        App(metrics=wrong)


# -- OpenTelemetry


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """A meter provider of the application, as `metrics.set_meter_provider` sets it once."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    monkeypatch.setattr(api, "_METER_PROVIDER", provider)
    yield found
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """The points of each of our metrics."""
    data = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        if scope.scope.name == "kiqpy"
        for metric in scope.metrics
    }


async def test_opentelemetry_gets_the_same(reader: InMemoryMetricReader) -> None:
    async with Jobs().testing() as t:
        for each in (works, works, fails):
            await each.enqueue()
        await t.drain()
        await t.tick(20)
        found = points(reader)
    consumed = {
        point.attributes["messaging.sidekiq.job_class"]: (point.value, dict(point.attributes))
        for point in found["messaging.client.consumed.messages"]
    }
    assert consumed["works"][0] == 2
    assert consumed["fails"] == (
        1,
        {
            "messaging.system": "sidekiq",
            "messaging.destination.name": "mail",
            "messaging.sidekiq.job_class": "fails",
            "error.type": "KeyError",
        },
    )
    durations = found["messaging.process.duration"]
    assert sum(point.count for point in durations) == 3
    assert durations[0].explicit_bounds[:3] == (0.005, 0.01, 0.025)
    sizes = {point.attributes["kiqpy.set"]: point.value for point in found["kiqpy.set.size"]}
    assert sizes == {"schedule": 0, "retry": 0, "dead": 0}


async def test_a_gauge_that_is_measured_no_more_is_reported_no_more(
    reader: InMemoryMetricReader,
) -> None:
    clock = FakeClock()
    sink = OpenTelemetrySink(metrics.get_meter_provider(), clock, fresh_s=30.0)
    sink.collect("gauge", "kiqpy.queue.depth", 7, {"queue": "mail"})
    [point] = points(reader)["kiqpy.queue.depth"]
    assert (point.value, point.attributes["messaging.destination.name"]) == (7, "mail")
    await clock.advance(31)
    assert not points(reader).get("kiqpy.queue.depth")


async def test_a_provider_that_is_set_after_the_start_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    async with Jobs().testing() as t:
        await works.enqueue()
        await t.drain()
        monkeypatch.setattr(api, "_METER_PROVIDER", provider)
        await t.tick(10)
        await works.enqueue()
        await t.drain()
        [point] = points(found)["messaging.client.consumed.messages"]
    assert point.value == 1
    provider.shutdown()

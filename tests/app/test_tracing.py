"""Traces, with the SDK of OpenTelemetry: which spans there are, and what is in what."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from kiqpy import App, Discard, Job, Periodic, Snooze, worker
from kiqpy.middleware import Next
from tests.server import TestServer

pytestmark = pytest.mark.anyio


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self, name: str | None = None) -> list[ReadableSpan]:
        return [s for s in self.exporter.get_finished_spans() if name is None or s.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.all(name)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """A tracer provider set by the application before its start."""
    found = Spans()
    set_provider(found, monkeypatch)
    yield found
    found.provider.shutdown()


def set_provider(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `trace.set_tracer_provider`, which can be called once in a process only."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)


def traced(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def span_of(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[trace.Span]:
    return trace.get_tracer("test").start_as_current_span(name, kind=kind)


seen: list[tuple[str, trace.SpanContext]] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@worker
async def calls(to: str) -> None:
    with span_of(f"GET /{to}", kind=SpanKind.CLIENT):
        await asyncio.sleep(0)
    seen.append((to, trace.get_current_span().get_span_context()))


@worker
def in_thread() -> None:
    with span_of("in the thread"):
        pass


@worker(retry=2)
async def fails() -> None:
    raise KeyError("nobody")


@worker
async def signals(what: str) -> None:
    if what == "snooze":
        raise Snooze(3600)
    raise Discard("not needed")


@worker
async def enqueues() -> None:
    await calls.enqueue("nested")


class Jobs(App):
    workers = (calls, in_thread, fails, signals, enqueues)


async def test_a_request_and_the_job_that_it_enqueued_are_linked(spans: Spans) -> None:
    async with Jobs().testing() as t:
        with span_of("POST /orders"):
            receipt = await calls.enqueue("bank")
        await t.drain()
    request, sent, run, nested = map(
        spans.one, ("POST /orders", "send default", "process default", "GET /bank")
    )
    assert traced(request) == traced(sent) != traced(run) == traced(nested)
    assert sent.parent is not None
    assert nested.parent is not None
    assert sent.parent.span_id == own(request)
    assert nested.parent.span_id == own(run)
    assert run.parent is None
    assert linked(run) == [own(sent)]
    assert (sent.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {"messaging.system": "sidekiq", "messaging.destination.name": "default"}
    assert dict(sent.attributes or {}) == common | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": receipt.jid,
    }
    assert dict(run.attributes or {}) == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": receipt.jid,
        "messaging.sidekiq.job_class": "calls",
        "kiqpy.job.attempt": 1,
    }


async def test_a_job_may_be_in_the_trace_of_who_enqueued_it(spans: Spans) -> None:
    async with Jobs(propagation="parent").testing() as t:
        with span_of("POST /orders"):
            await calls.enqueue("bank")
        await t.drain()
    sent, run = spans.one("send default"), spans.one("process default")
    assert traced(sent) == traced(run)
    assert run.parent is not None
    assert run.parent.span_id == own(sent)
    assert linked(run) == []


@pytest.mark.parametrize("propagation", ["link", "parent"])
async def test_a_retry_is_a_trace_of_its_own_with_a_link(spans: Spans, propagation: Any) -> None:
    async with Jobs(propagation=propagation).testing() as t:
        await fails.enqueue()
        await t.drain()
        await t.tick(3600)
        await t.drain()
    sent = spans.one("send default")
    first, retry = spans.all("process default")[:2]
    assert (first.parent is None) == (propagation == "link")
    assert retry.parent is None
    assert traced(retry) not in (traced(sent), traced(first)) or propagation == "link"
    assert traced(retry) != traced(first)
    assert linked(retry) == [own(sent)]
    assert [(s.attributes or {})["kiqpy.job.attempt"] for s in (first, retry)] == [1, 2]


async def test_nothing_travels_if_nothing_shall(spans: Spans) -> None:
    jobs = Jobs(propagation="none")
    async with jobs.testing() as t:
        await calls.enqueue("bank")
        [job] = t.queued
        await t.drain()
    assert "traceparent" not in job.payload
    assert spans.one("process default").links == ()


async def test_the_payload_has_what_rubys_instrumentation_reads(spans: Spans) -> None:
    jobs = Jobs()
    async with jobs.testing() as t:
        token = context.attach(baggage.set_baggage("tenant", "42"))
        try:
            await calls.enqueue("bank")
        finally:
            context.detach(token)
        [job] = t.queued
        await t.drain()
    sent = spans.one("send default")
    ids = f"{format_trace_id(traced(sent))}-{format_span_id(own(sent))}"
    assert job.payload["traceparent"].startswith(f"00-{ids}-")
    assert job.payload["baggage"] == "tenant=42"


async def test_a_job_sees_the_baggage_of_who_enqueued_it(spans: Spans) -> None:
    found: list[object] = []

    @worker
    async def looks() -> None:
        found.append(baggage.get_baggage("tenant"))

    async with App(workers=[looks]).testing() as t:
        token = context.attach(baggage.set_baggage("tenant", "42"))
        try:
            await looks.enqueue()
        finally:
            context.detach(token)
        await t.drain()
    assert found == ["42"]


@pytest.mark.parametrize("rubbish", [7, None, "", "00-xyz", ["a"], {"a": 1}, "0" * 10_000])
async def test_a_payload_with_rubbish_in_its_place_runs(spans: Spans, rubbish: Any) -> None:
    jobs = Jobs()
    async with jobs.testing() as t:
        await jobs.enqueue(Job("calls", ["bank"], traceparent=rubbish))
        report = await t.drain()
    assert report.done == 1
    assert spans.one("process default").links == ()


async def test_what_fails_is_an_error_of_its_span(spans: Spans) -> None:
    async with Jobs().testing() as t:
        await fails.enqueue()
        await t.drain()
    run = spans.one("process default")
    assert run.status.status_code is StatusCode.ERROR
    assert run.status.description == "KeyError: 'nobody'"
    assert (run.attributes or {})["error.type"] == "KeyError"
    [event] = run.events
    assert event.name == "exception"


@pytest.mark.parametrize("what", ["snooze", "discard"])
async def test_a_signal_is_no_error(spans: Spans, what: str) -> None:
    async with Jobs().testing() as t:
        await signals.enqueue(what)
        await t.drain()
    run = spans.one("process default")
    assert run.status.status_code is StatusCode.UNSET
    assert run.events == ()
    assert "error.type" not in (run.attributes or {})


async def test_an_enqueue_that_is_refused_is_an_error_of_its_span(spans: Spans) -> None:
    async with Jobs(max_payload=100).testing():
        with pytest.raises(ValueError, match="max_payload"):
            await calls.enqueue("x" * 200)
    sent = spans.one("send default")
    assert sent.status.status_code is StatusCode.ERROR
    assert (sent.attributes or {})["error.type"] == "kiqpy.errors.ArgumentError"


async def test_a_batch_is_one_span_that_counts_its_jobs(spans: Spans) -> None:
    jobs = Jobs()
    async with jobs.testing() as t:
        await jobs.enqueue_many(calls.new(str(n)) for n in range(5))
        await jobs.enqueue_many((calls.new("a"), calls.using(queue="mail").new("b")), atomic=False)
        await t.drain()
    sent = spans.one("send default")
    assert (sent.attributes or {})["messaging.batch.message_count"] == 5
    assert (sent.attributes or {})["messaging.destination.name"] == "default"
    mixed = spans.one("send")
    assert (mixed.attributes or {})["messaging.batch.message_count"] == 2
    assert "messaging.destination.name" not in (mixed.attributes or {})
    assert [linked(run) for run in spans.all("process default")][:5] == [[own(sent)]] * 5


async def test_enqueue_nowait_has_a_span(spans: Spans) -> None:
    jobs = Jobs()
    async with jobs.testing() as t:
        jobs.enqueue_nowait(calls.new("bank"))
        await t.drain()
    assert linked(spans.one("process default")) == [own(spans.one("send default"))]


async def test_a_thread_is_in_the_span_of_its_job(spans: Spans) -> None:
    async with Jobs().testing() as t:
        await in_thread.enqueue()
        await t.drain()
    inner = spans.one("in the thread")
    assert inner.parent is not None
    assert inner.parent.span_id == own(spans.one("process default"))


async def test_a_job_of_a_job_is_linked_to_its_own_enqueue(spans: Spans) -> None:
    async with Jobs().testing() as t:
        await enqueues.enqueue()
        await t.drain()
    first, second = spans.all("send default")
    outer, inner = sorted(spans.all("process default"), key=lambda span: span.start_time or 0)
    assert linked(outer) == [own(first)]
    assert linked(inner) == [own(second)]
    assert traced(second) == traced(outer) != traced(inner)


async def test_nothing_leaks_from_one_job_into_the_next(spans: Spans) -> None:
    async with Jobs().testing() as t:
        for n in range(20):
            await calls.enqueue(str(n))
        await t.drain()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert len({found.trace_id for _, found in seen}) == 20
    runs = {own(run): run for run in spans.all("process default")}
    assert {found.span_id for _, found in seen} == runs.keys()


async def test_a_periodic_job_starts_a_trace(spans: Spans) -> None:
    class Periodical(App):
        workers = (calls,)
        periodics = (Periodic("* * * * *", calls, args=("clock",)),)

    with span_of("start-up"):
        async with Periodical().testing() as t:
            await t.tick(180)
            await t.drain()
    runs = spans.all("process default")
    assert len({traced(run) for run in runs}) == len(runs) >= 2
    assert all(run.parent is None and not run.links for run in runs)


async def test_middleware_of_the_app_is_inside_of_the_span(spans: Spans) -> None:
    async def around(job: Job, call_next: Next) -> object:
        with span_of("around"):
            return await call_next(job)

    async with Jobs(middleware=[around]).testing() as t:
        await calls.enqueue("bank")
        await t.drain()
    inner = spans.one("around")
    assert inner.parent is not None
    assert inner.parent.span_id == own(spans.one("process default"))


async def test_a_provider_that_is_set_after_the_start_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = Spans()
    async with Jobs().testing() as t:
        await calls.enqueue("before")
        await t.drain()
        set_provider(spans, monkeypatch)
        await t.tick(10)
        await calls.enqueue("after")
        await t.drain()
    assert linked(spans.one("process default")) == [own(spans.one("send default"))]
    spans.provider.shutdown()


async def test_tracing_can_be_switched_off(spans: Spans) -> None:
    async with Jobs(tracing=False).testing() as t:
        await calls.enqueue("bank")
        await t.drain()
    assert [span.name for span in spans.all()] == ["GET /bank"]


SCRIPT = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from kiqpy import App, worker

exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\\n")
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
done = asyncio.Event()

@worker
async def calls(to):
    with trace.get_tracer("client").start_as_current_span(f"GET /{to}"):
        done.set()

class Jobs(App):
    workers = (calls,)

async def main():
    async with Jobs(redis_url=sys.argv[1]):
        await asyncio.wait_for(done.wait(), 60)

asyncio.run(main())
"""


async def test_a_trace_goes_on_in_another_process(
    spans: Spans, clean: TestServer, tmp_path: Path
) -> None:
    async with Jobs(redis_url=clean.url).client_only():
        with span_of("POST /orders"):
            await calls.enqueue("bank")
    script = tmp_path / "works.py"
    script.write_text(SCRIPT)
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, script, clean.url], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    there = {span["name"]: span for span in map(json.loads, process.stdout.splitlines())}
    run, nested = there["process default"], there["GET /bank"]
    sent = spans.one("send default")
    [link] = run["links"]
    assert int(link["context"]["span_id"], 16) == own(sent)
    assert int(link["context"]["trace_id"], 16) == traced(sent)
    assert run["parent_id"] is None
    assert nested["parent_id"] == run["context"]["span_id"]

"""Traces as an extension: what the enqueuing code is in, its jobs are in, and their jobs, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count

import pytest

from kiqpy import App, Job, worker
from kiqpy._extensions.extension import Extension
from kiqpy.middleware import ClientMiddleware, Next, ServerMiddleware

pytestmark = pytest.mark.anyio


@dataclass
class Span:
    trace: str
    name: str
    parent: Span | None = None
    error: str | None = None
    ended: bool = False
    number: int = field(default_factory=count(1).__next__)


current: ContextVar[Span | None] = ContextVar("current_span", default=None)
spans: list[Span] = []
seen: list[tuple[str, Span | None]] = []


class Tracer(Extension):
    """`traceparent` travels in the payload; a job's span is set in the job's own context."""

    def client_middleware(self) -> Sequence[ClientMiddleware]:
        async def stamp(job: Job, call_next: Next) -> object:
            if (span := current.get()) is not None:
                job.payload["traceparent"] = span.trace
            return await call_next(job)

        return (stamp,)

    def contexts(self) -> Sequence[Callable[[Job], object]]:
        return (open_span,)

    def server_middleware(self) -> Sequence[ServerMiddleware]:
        async def end_span(job: Job, call_next: Next) -> object:
            span = current.get()
            assert span is not None
            try:
                return await call_next(job)
            except Exception as error:
                span.error = repr(error)
                raise
            finally:
                span.ended = True

        return (end_span,)


def open_span(job: Job) -> None:
    span = Span(str(job.payload.get("traceparent", f"trace-{job.jid}")), job.class_)
    spans.append(span)
    current.set(span)


@worker
async def parent() -> None:
    seen.append(("parent", current.get()))
    await child.enqueue()


@worker
def child() -> None:  # in a thread
    seen.append(("child", current.get()))


@worker(retry=False)
async def fails() -> None:
    raise ValueError("no")


class Traced(App):
    workers = (parent, child, fails)
    _extensions = (Tracer,)


@pytest.fixture(autouse=True)
def no_spans() -> None:
    spans.clear()
    seen.clear()


async def test_a_job_and_the_jobs_it_enqueues_are_in_the_trace_of_who_enqueued_it() -> None:
    async with Traced().testing() as t:
        token = current.set(Span("request-1", "request"))
        try:
            await parent.enqueue()
        finally:
            current.reset(token)
        await t.drain()
    assert [(span.trace, span.name, span.ended) for span in spans] == [
        ("request-1", "parent", True),
        ("request-1", "child", True),
    ]


async def test_the_job_sees_its_span_and_nobody_else_does() -> None:
    async with Traced().testing() as t:
        await parent.enqueue()
        await t.drain()
    assert seen == [("parent", spans[0]), ("child", spans[1])]
    assert current.get() is None


async def test_an_error_is_in_the_span_and_fails_the_job_all_the_same() -> None:
    async with Traced().testing() as t:
        await fails.enqueue()
        await t.drain()
    [span] = spans
    assert span.error == "ValueError('no')"
    assert span.ended

"""Which context a job's code runs in: an empty one, whoever has started the app."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from kiqpy import App, Job, LifecycleError, current_job, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
request: ContextVar[str] = ContextVar("request", default="none")
seen: list[Any] = []


@worker
async def looks() -> None:
    seen.append((request.get(), len(copy_context()), current_job().class_))
    request.set("the job's own")


@worker
def looks_in_a_thread() -> None:
    seen.append((request.get(), len(copy_context()), current_job().class_))


@worker
async def adds(queue: str) -> None:
    request.set("of the job that added the queue")
    await apps[-1].add_queue(queue, 1)


apps: list[App] = []


@pytest.mark.parametrize("made", [looks, looks_in_a_thread])
async def test_a_job_does_not_see_the_context_in_which_the_app_was_started(
    clean: TestServer, made: Any
) -> None:
    """A request's id or a span that was current at the start was every job's, for ever."""
    seen.clear()
    token = request.set("GET /")
    try:
        async with App(redis_url=clean.url, workers=[made]) as app:
            await app.enqueue_many([made.new(), made.new()])
            await eventually(lambda: len(seen) == 2, "both jobs")
    finally:
        request.reset(token)
    assert seen == [("none", 1, made.spec.name)] * 2


async def test_nor_that_of_the_job_that_added_its_queue(clean: TestServer) -> None:
    seen.clear()
    app = App(redis_url=clean.url, workers=[adds, looks])
    apps.append(app)
    async with app:
        await app.enqueue(adds.new("more"))
        await app.enqueue(looks.using(queue="more").new())
        await eventually(lambda: len(seen) == 1, "the job")
    assert seen == [("none", 1, "looks")]


async def test_middleware_may_set_more(clean: TestServer) -> None:
    async def traced(job: Job, call_next: Any) -> Any:
        request.set(f"job {job.class_}")
        return await call_next(job)

    seen.clear()
    async with App(redis_url=clean.url, workers=[looks], middleware=[traced]) as app:
        await app.enqueue(looks.new())
        await eventually(lambda: len(seen) == 1, "the job")
    assert seen[0][0] == "job looks"


async def test_a_client_whose_task_was_cancelled_says_so(clean: TestServer) -> None:
    """Each `enqueue` waited for ever."""
    app = App(redis_url=clean.url, server=False)
    await app.start()
    task = next(t for t in asyncio.all_tasks() if t.get_name() == "kiqpy:client")
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(LifecycleError, match="was cancelled or failed: restart the app"):
        await app.enqueue(Job("a"))
    with pytest.raises(LifecycleError, match="was cancelled or failed"):
        await app.wait_stopped()
    await app.stop()

"""Client middleware: every way to enqueue passes it, and none sees a half-changed job."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kiqpy import App, ArgumentError, ConfigError, Job, LifecycleError, Receipt, worker
from kiqpy.middleware import Next
from tests.server import TestServer

pytestmark = pytest.mark.anyio

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


@worker
async def noop(n: int) -> None: ...


async def traced(job: Job, call_next: Next) -> None:
    """Carries something of the caller's along."""
    job.payload["request_id"] = request_id.get()
    await call_next(job)


async def odd_only(job: Job, call_next: Next) -> None:
    if job.args[0] % 2:
        await call_next(job)


async def not_three(job: Job, call_next: Next) -> None:
    await call_next(job)
    if job.args[0] == 3:
        raise ValueError("three")


@asynccontextmanager
async def client(server: TestServer, *chain: Any) -> AsyncIterator[App]:
    async with App(
        redis_url=server.url, workers=[noop], client_middleware=chain
    ).client_only() as jobs:
        yield jobs


def queued(server: TestServer, queue: str = "default") -> list[dict[str, Any]]:
    raws = server.cli("LRANGE", f"queue:{queue}", 0, -1)
    assert isinstance(raws, list)
    return [json.loads(str(raw)) for raw in reversed(raws)]


async def test_the_payload_is_what_the_middleware_made_of_it(clean: TestServer) -> None:
    request_id.set("abc")
    async with client(clean, traced) as jobs:
        job = noop.new(1)
        receipt = await jobs.enqueue(job)
    [sent] = queued(clean)
    assert sent["request_id"] == "abc"
    assert sent["jid"] == receipt.jid
    assert "request_id" not in job.payload  # one's own job stays as it was


async def test_another_job_may_go_in_its_place(clean: TestServer) -> None:
    async def other(job: Job, call_next: Next) -> None:
        job.args.append("seen")
        await call_next(Job("Ruby::Worker", job.args, queue="ruby", jid=job.jid))

    async with client(clean, other) as jobs:
        job = noop.new(1)
        receipt = await jobs.enqueue(job)
    [sent] = queued(clean, "ruby")
    assert (sent["class"], sent["args"], sent["jid"]) == ("Ruby::Worker", [1, "seen"], receipt.jid)
    assert job.args == [1]


async def test_the_middleware_sees_when_the_job_is_due_and_may_change_it(clean: TestServer) -> None:
    seen: list[Any] = []

    async def later(job: Job, call_next: Next) -> None:
        seen.append(job.in_s)
        job.in_s = 600 if job.in_s else None
        await call_next(job)

    async with client(clean, later) as jobs:
        states = [
            (await jobs.enqueue(noop.new(1), in_=5)).state,
            (await jobs.enqueue(noop.new(2))).state,
        ]
    assert states == ["scheduled", "queued"]
    assert seen == [5, None]
    [_, due] = clean.cli("ZRANGE", "schedule", 0, -1, "WITHSCORES")  # type: ignore[misc]
    assert float(str(due)) - queued(clean)[0]["enqueued_at"] > 500


async def test_a_job_that_does_not_go_on_is_halted(clean: TestServer) -> None:
    async with client(clean, odd_only) as jobs:
        receipt = await jobs.enqueue(noop.new(2))
        assert receipt.state == "halted"
        assert len(receipt.jid) == 24
        assert jobs.enqueue_nowait(noop.new(4)).state == "halted"
        assert (await jobs.enqueue_many([noop.new(6)]))[0].state == "halted"
    assert queued(clean) == []


@pytest.mark.parametrize("atomic", [True, False])
async def test_of_many_each_passes_in_order_and_they_leave_as_one(
    clean: TestServer, atomic: bool
) -> None:
    seen: list[int] = []

    async def notes(job: Job, call_next: Next) -> None:
        seen.append(job.args[0])
        await call_next(job)

    async with client(clean, notes, odd_only) as jobs:
        receipts = await jobs.enqueue_many([noop.new(n) for n in range(6)], atomic=atomic)
    assert [r.state for r in receipts] == ["halted", "queued"] * 3
    assert seen == list(range(6))
    assert [job["args"] for job in queued(clean)] == [[1], [3], [5]]
    assert [job["jid"] for job in queued(clean)] == [r.jid for r in receipts[1::2]]


async def test_an_error_reaches_who_enqueues_and_nothing_is_pushed(clean: TestServer) -> None:
    async with client(clean, not_three) as jobs:
        for push in (
            lambda: jobs.enqueue(noop.new(3)),
            lambda: jobs.enqueue_many([noop.new(1), noop.new(3)]),
        ):
            with pytest.raises(ValueError, match="three") as raised:
                await push()
            assert raised.value.__notes__ == ["raised by middleware not_three"]
        with pytest.raises(ValueError, match="three"):
            jobs.enqueue_nowait(noop.new(3))
        await jobs.flush()
    assert queued(clean) == []


async def test_what_cannot_travel_is_refused_after_the_middleware_too(clean: TestServer) -> None:
    async def adds(job: Job, call_next: Next) -> None:
        job.args.append({1, 2})
        await call_next(job)

    async with client(clean, adds) as jobs:
        with pytest.raises(ArgumentError, match="argument number 2 is a set"):
            await jobs.enqueue(noop.new(1))


async def test_enqueue_nowait_works_unless_the_middleware_waits(clean: TestServer) -> None:
    async def waits(job: Job, call_next: Next) -> None:
        await asyncio.sleep(0)
        await call_next(job)

    async with client(clean, traced) as jobs:
        assert jobs.enqueue_nowait(noop.new(1)).state == "buffered"
        await jobs.flush()
    async with client(clean, traced, waits) as jobs:
        with pytest.raises(LifecycleError, match=r"waits waits for something.*await enqueue"):
            jobs.enqueue_nowait(noop.new(2))
        assert (await jobs.enqueue(noop.new(3))).state == "queued"
    assert [job["args"] for job in queued(clean)] == [[1], [3]]


async def test_from_a_thread_the_callers_context_is_seen(clean: TestServer) -> None:
    def from_thread(jobs: App) -> Receipt:
        request_id.set("thread")
        jobs.enqueue_nowait(noop.new(1))
        return jobs.enqueue_sync(noop.new(2))

    async with client(clean, traced) as jobs:
        await asyncio.to_thread(from_thread, jobs)
    assert [job["request_id"] for job in queued(clean)] == ["thread", "thread"]


def test_a_script_passes_too(clean: TestServer) -> None:
    jobs = App(redis_url=clean.url, workers=[noop], client_middleware=[odd_only])
    assert [jobs.enqueue_sync(noop.new(n)).state for n in (1, 2)] == ["queued", "halted"]
    jobs.close_sync()


def test_what_is_no_middleware_is_refused_when_the_app_is_made() -> None:
    for option in ("middleware", "client_middleware"):
        with pytest.raises(ConfigError, match=f"^{option}: int is not async"):
            App(**{option: [7]})

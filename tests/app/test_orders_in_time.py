"""How soon an app heeds what it is told and what it has put off, whatever `poll_interval` is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kiqpy import App, Periodic, Snooze, current_job, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
POLLS = (0.05, 1.0, 30.0, 300.0)
ran: list[str] = []
hold: list[asyncio.Event] = []


@worker(retry=False)
async def note(what: str) -> None:
    ran.append(what)


@worker
async def snoozes() -> Snooze | None:
    ran.append("snoozes")
    return Snooze(0.05) if ran.count("snoozes") == 1 else None


@worker(backoff="immediate")
async def fails_once() -> None:
    ran.append("fails")
    if ran.count("fails") == 1:
        raise ValueError("once")


@worker(retry=False)
async def waits() -> None:
    ran.append("waits")
    try:
        await hold[0].wait()
    except asyncio.CancelledError:
        ran.append(f"cancelled {current_job().jid}")
        raise


class Jobs(App):
    queues = {"default": 2}
    workers = [note, snoozes, fails_once, waits]
    shutdown_timeout = 0.0
    periodics = [
        Periodic("* * * * * *", note, args=["tick"], name="tick", enabled=False),
        Periodic("0 0 1 1 *", note, args=["yearly"], name="yearly"),
    ]


async def a_delay(jobs: Jobs) -> None:
    await jobs.enqueue(note.new("late"), in_=0.05)
    await eventually(lambda: ran == ["late"], "the job")


async def a_snooze(jobs: Jobs) -> None:
    await jobs.enqueue(snoozes.new())
    await eventually(lambda: ran == ["snoozes"] * 2, "the second run")


async def a_retry(jobs: Jobs) -> None:
    await jobs.enqueue(fails_once.new())
    await eventually(lambda: ran == ["fails"] * 2, "the retry")


async def enable(jobs: Jobs) -> None:
    assert await jobs.cron.enable("tick")
    await eventually(lambda: "tick" in ran, "a tick")


async def run_now(jobs: Jobs) -> None:
    await jobs.cron.run_now("yearly")
    await eventually(lambda: ran == ["yearly"], "the job")


async def pause_and_resume(jobs: Jobs) -> None:
    events: list[str] = []
    jobs.attach("queue.*", lambda event: events.append(type(event).__name__))
    await jobs.pause("default")
    await eventually(lambda: events == ["QueuePaused"], "the pause")
    await jobs.enqueue(note.new("paused"))
    await jobs.resume("default")
    await eventually(lambda: events == ["QueuePaused", "QueueRunning"], "its end")
    await eventually(lambda: ran == ["paused"], "the job")


async def cancel(jobs: Jobs) -> None:
    receipt = await jobs.enqueue(waits.new())
    await eventually(lambda: ran == ["waits"], "its start")
    await jobs.cancel(receipt.jid)
    await eventually(lambda: ran[1:] == [f"cancelled {receipt.jid}"], "its end")


async def scale(jobs: Jobs) -> None:
    await jobs.enqueue_many([waits.new(), waits.new(), note.new("third")])
    await eventually(lambda: ran == ["waits"] * 2, "two")
    jobs.scale("default", 3)
    await eventually(lambda: "third" in ran, "the third")
    hold[0].set()


ORDERS = (a_delay, a_snooze, a_retry, enable, run_now, pause_and_resume, cancel, scale)


@asynccontextmanager
async def settled(jobs: Jobs) -> AsyncIterator[Jobs]:
    """An app whose loops have looked once, and now sleep as long as they may."""
    ran.clear()
    hold[:] = [asyncio.Event()]
    leads = asyncio.Event()
    jobs.attach("leader.elected", lambda _event: leads.set())
    async with jobs:
        async with asyncio.timeout(20):
            await leads.wait()
        yield jobs


@pytest.mark.parametrize("poll_s", POLLS)
@pytest.mark.parametrize("order", ORDERS)
async def test_an_order_is_heeded_soon_whatever_the_poll_interval_is(
    clean: TestServer, order: Callable[[Jobs], Awaitable[None]], poll_s: float
) -> None:
    jobs = Jobs(redis_url=clean.url, poll_interval=poll_s, heartbeat_interval=10, lease_ttl=30)
    async with settled(jobs):
        await order(jobs)


# -- in virtual time


async def test_a_periodic_that_is_enabled_in_a_test_ticks_at_its_next_time() -> None:
    jobs = Jobs(periodics=[Periodic("* * * * *", note, args=["tick"], name="t", enabled=False)])
    async with jobs.testing() as t:
        await t.tick(600)
        assert await jobs.cron.enable("t")
        await t.tick(60)
        assert [job.args for job in t.queued] == [["tick"]]


async def test_a_job_that_runs_in_a_test_is_cancelled_at_once() -> None:
    ran.clear()
    hold[:] = [asyncio.Event()]
    jobs = Jobs()
    async with jobs.testing() as t:
        receipt = await jobs.enqueue(waits.new())
        draining = asyncio.create_task(t.drain())
        await eventually(lambda: ran == ["waits"], "its start")
        await jobs.cancel(receipt.jid)
        await draining
        assert ran[1:] == [f"cancelled {receipt.jid}"]


async def test_what_a_test_puts_off_is_due_at_its_time() -> None:
    ran.clear()
    jobs = Jobs()
    async with jobs.testing() as t:
        await jobs.enqueue(snoozes.new())
        await t.drain()
        await t.tick(0.05)
        assert [job.class_ for job in t.queued] == ["snoozes"]

"""Streams of events: what they hold, what they drop, when they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kiqpy import App, ConfigError, Job, LifecycleError, worker
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.stream import EventStream
from kiqpy.event import Event, JobFenced, JobStarted, LoopLag, ProcessStopped, QueuePaused
from kiqpy.testing import rest
from tests.eventually import eventually

pytestmark = pytest.mark.anyio

STOPPED = ProcessStopped("me", 0)


@worker(queue="mail")
async def send(n: int) -> None: ...


@worker
async def note(n: int) -> None: ...


def stream(bus: Bus, *patterns: str, **options: Any) -> EventStream:
    return EventStream(bus, patterns, **options)


async def all_of(it: EventStream) -> list[Event]:
    return [event async for event in it]


async def test_in_an_app_it_hears_one_queues_jobs_and_ends_with_the_app(redis_url: str) -> None:
    jobs = App(redis_url=redis_url, queues={"default": 5, "mail": 5}, workers=[send, note])
    async with jobs.events("job.*", queue="mail") as it:
        hearing = asyncio.create_task(all_of(it))
        over: set[str] = set()
        jobs.attach("job.stopped", lambda event: over.add(event.job.jid))
        async with jobs:
            await jobs.enqueue(note.new(1))
            receipt = await jobs.enqueue(send.new(2))
            await eventually(lambda: receipt.jid in over, "the job's end")
        heard = await asyncio.wait_for(hearing, 10)
    names = ["job.enqueued", "job.started", "job.success", "job.stopped"]
    assert [event.name for event in heard] == names
    assert {event.job.jid for event in heard} == {receipt.jid}  # type: ignore[attr-defined]


async def test_events_come_in_order_and_once_however_many_patterns_match() -> None:
    bus = Bus()
    async with stream(bus, "loop.*", "loop.lag", "process.*") as it:
        for n in range(3):
            bus.emit(LoopLag(n))
        bus.emit(QueuePaused("q"))
        bus.emit(STOPPED)
        bus.end()
        assert await all_of(it) == [LoopLag(0), LoopLag(1), LoopLag(2), STOPPED]
        assert it.dropped == 0


async def test_the_oldest_are_dropped_and_counted() -> None:
    bus = Bus()
    async with stream(bus, "loop.lag", limit=3) as it:
        for n in range(10):
            bus.emit(LoopLag(n))
        assert it.dropped == 7
        bus.end()
        assert await all_of(it) == [LoopLag(7), LoopLag(8), LoopLag(9)]


async def test_of_a_queue_are_its_own_events_and_its_jobs() -> None:
    bus, mine = Bus(), Job("noop", queue="mail")
    told = [
        JobStarted(mine), JobStarted(Job("noop", queue="other")), QueuePaused("mail"),
        QueuePaused("other"), LoopLag(1.0), JobFenced(None, "mail"), JobFenced(mine, "mail"),
    ]  # fmt: skip
    async with stream(bus, queue="mail") as it:
        for event in told:
            bus.emit(event)
        bus.end()
        assert await all_of(it) == [told[0], told[2], told[5], told[6]]


async def test_a_cancelled_wait_loses_nothing() -> None:
    bus = Bus()
    async with stream(bus, "loop.lag") as it:
        waiting = asyncio.create_task(anext(it))
        await rest()
        bus.emit(LoopLag(1))  # it has come, but the waiter has not run yet
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await anext(it) == LoopLag(1)


async def test_several_may_take_from_one_stream() -> None:
    bus = Bus()
    async with stream(bus, "loop.lag") as it:
        takers = [asyncio.create_task(all_of(it)) for _ in range(3)]
        await rest()
        for n in range(9):
            bus.emit(LoopLag(n))
            await rest()
        bus.end()
        taken = await asyncio.wait_for(asyncio.gather(*takers), 5)
    assert sorted(event.lag_s for part in taken for event in part) == list(range(9))  # type: ignore[attr-defined]


async def test_when_it_is_left_nothing_is_heard_and_who_waits_ends() -> None:
    bus = Bus()
    async with stream(bus, "loop.lag") as it:
        waiting = asyncio.create_task(all_of(it))
        await rest()
    assert await asyncio.wait_for(waiting, 5) == []
    assert bus.handlers(LoopLag) == []
    assert bus.handlers(ProcessStopped) == []
    bus.emit(LoopLag(1))
    assert await all_of(it) == []


async def test_it_must_be_opened_and_only_once() -> None:
    it = stream(Bus())
    with pytest.raises(LifecycleError, match="open the stream first: `async with"):
        await anext(it)
    async with it:
        with pytest.raises(LifecycleError, match="opened once"):
            await it.__aenter__()


async def test_what_cannot_be_heard_is_refused() -> None:
    for options, message in (
        ({"limit": 0}, "limit=0: give a whole number"),
        ({"queue": "no such name!"}, "queue name"),
    ):
        with pytest.raises(ConfigError, match=message):
            App().events("job.*", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no event matches 'jobs.\*'"):
        App().events("jobs.*")

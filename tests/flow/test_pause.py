"""Waiting for an event or a time; back-off that doubles, with a bound and jitter."""

from __future__ import annotations

import asyncio

import pytest

from kiqpy._flow.pause import ExponentialBackoff, wait
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio


def test_waits_double_up_to_five_seconds() -> None:
    backoff = ExponentialBackoff(FakeClock(), first_s=0.5)
    ceilings = [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    for ceiling in ceilings:
        assert ceiling / 2 <= backoff.next_s() <= ceiling


def test_two_workers_do_not_return_as_one() -> None:
    one, other = (ExponentialBackoff(FakeClock(seed=seed)) for seed in (1, 2))
    assert [one.next_s() for _ in range(5)] != [other.next_s() for _ in range(5)]


def test_after_an_answer_the_wait_is_short_again() -> None:
    backoff = ExponentialBackoff(FakeClock(), first_s=0.1, factor=3)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.1


async def test_pause_waits_on_the_clock() -> None:
    clock = FakeClock()
    pausing = asyncio.create_task(ExponentialBackoff(clock, first_s=4.0).pause())
    await clock.advance(1.9)
    assert not pausing.done()
    await clock.advance(2.1)
    await rest()
    assert pausing.done()


@pytest.mark.parametrize("seconds", [5.0, None])
async def test_a_wait_ends_with_its_event(seconds: float | None) -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.create_task(wait(event, clock, seconds))
    await rest()
    assert not waiting.done()
    event.set()
    await rest()
    assert waiting.done()
    event.clear()
    await clock.advance(100)
    assert not event.is_set(), "its timer was cancelled"


async def test_a_wait_ends_with_its_time() -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.create_task(wait(event, clock, 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert waiting.done()


async def test_a_cancelled_wait_leaves_no_timer() -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.create_task(wait(event, clock, 5.0))
    await rest()
    waiting.cancel()
    await clock.advance(100)
    assert waiting.cancelled()
    assert not event.is_set()

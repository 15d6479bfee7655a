"""Loops: jitter, back-off, defects, waking and stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kiqpy._flow.loop import Loop, LoopRunner
from kiqpy.errors import StoreRefused, StoreUnavailable
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio


class Ticker(Loop):
    """A loop whose ticks do what a list says: return a delay or raise."""

    name = "ticker"

    def __init__(self, clock: FakeClock, *answers: float | Exception) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.ticks: list[float] = []
        self.gate: asyncio.Event | None = None
        self.closed = 0
        self.close_raises: Exception | None = None

    async def tick(self) -> float:
        self.ticks.append(self.clock.monotonic())
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else 3600.0
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed += 1
        if self.close_raises is not None:
            raise self.close_raises


def unheard(name: str, error: Exception) -> None:
    raise AssertionError(f"{name}: {error!r}")


def started(
    loop: Ticker, clock: FakeClock, on_failure: Callable[[str, Exception], None] = unheard
) -> tuple[LoopRunner, asyncio.Task[None]]:
    runner = LoopRunner(loop, clock, on_failure)
    return runner, asyncio.create_task(runner.run())


async def stopped(runner: LoopRunner, task: asyncio.Task[None]) -> None:
    runner.stop()
    await rest()
    assert task.done()


async def test_the_next_tick_comes_a_little_early_and_never_late() -> None:
    clock = FakeClock()
    loop = Ticker(clock, *[10.0] * 20)
    runner, task = started(loop, clock)
    await clock.advance(150)
    gaps = {round(b - a, 6) for a, b in zip(loop.ticks, loop.ticks[1:], strict=False)}
    assert len(gaps) > 5  # jitter
    assert all(9.0 <= gap <= 10.0 for gap in gaps)
    await stopped(runner, task)


async def test_zero_means_there_is_more_and_others_run_in_between() -> None:
    clock = FakeClock()
    loop = Ticker(clock, 0, 0, 0)
    turns: list[int] = []
    runner, task = started(loop, clock)
    for _ in range(3):
        await asyncio.sleep(0)
        turns.append(len(loop.ticks))
    assert turns == [1, 2, 3]
    await stopped(runner, task)


async def test_a_silent_store_is_asked_less_and_less_often() -> None:
    clock = FakeClock()
    loop = Ticker(clock, *[StoreUnavailable("away")] * 5, StoreRefused("no"), 1000.0)
    runner, task = started(loop, clock, lambda _name, _error: None)
    await clock.advance(100)
    gaps = [b - a for a, b in zip(loop.ticks, loop.ticks[1:], strict=False)]
    assert len(gaps) == 6
    assert gaps[0] <= 0.5
    assert all(gap <= 5.0 for gap in gaps)
    assert gaps[-1] > 4 * gaps[0]
    await stopped(runner, task)


async def test_a_defect_is_told_and_the_loop_goes_on() -> None:
    clock = FakeClock()
    told: list[tuple[str, str]] = []
    loop = Ticker(clock, ZeroDivisionError("x"), 1.0)
    runner, task = started(loop, clock, lambda name, error: told.append((name, repr(error))))
    await clock.advance(2)
    assert told == [("ticker", "ZeroDivisionError('x')")]
    assert len(loop.ticks) == 3
    await stopped(runner, task)


def listening(*answers: float | Exception) -> tuple[FakeClock, Ticker, list[str]]:
    clock = FakeClock()
    return clock, Ticker(clock, *answers), []


@pytest.mark.parametrize("refusals", [1, 20])
async def test_a_refused_loop_is_told_at_once_and_once(refusals: int) -> None:
    clock, loop, told = listening(*[StoreRefused("WRONGTYPE retry")] * refusals, 1.0)
    runner, task = started(loop, clock, lambda _name, error: told.append(str(error)))
    await rest()
    assert told == ["WRONGTYPE retry"]
    await clock.advance(200)
    assert len(loop.ticks) == refusals + 2
    assert told == ["WRONGTYPE retry"]
    await stopped(runner, task)


async def test_a_refusal_in_other_words_is_told_too() -> None:
    clock, loop, told = listening(*[StoreRefused("retry"), StoreRefused("schedule")] * 4)
    runner, task = started(loop, clock, lambda _name, error: told.append(str(error)))
    await clock.advance(60)
    assert told == ["retry", "schedule"]
    await stopped(runner, task)


async def test_a_refusal_after_a_good_tick_is_told_again_once_a_minute() -> None:
    clock, loop, told = listening(*[StoreRefused("no"), 1.0] * 100)
    runner, task = started(loop, clock, lambda _name, error: told.append(f"{clock.monotonic()}"))
    await clock.advance(130)
    assert len(loop.ticks) > 100
    assert len(told) == 3, "in turns with good ticks it must not fill the log"
    assert told[0] == "0.0"
    await stopped(runner, task)


async def test_a_silent_store_is_told_once_when_it_has_lasted() -> None:
    silence = [StoreUnavailable("away")] * 40
    clock, loop, told = listening(*silence, 1.0, *silence, 1.0)
    runner, task = started(loop, clock, lambda _name, error: told.append(str(error)))
    await clock.advance(29)
    assert told == [], "an outage that is short is told by who needs an answer now"
    await clock.advance(7)
    assert told == ["away"]
    while len(loop.ticks) < 41:
        await clock.advance(5)
    assert told == ["away"]
    await clock.advance(40)
    assert told == ["away"] * 2, "a good tick ends the outage"
    await stopped(runner, task)


async def test_wake_ticks_now() -> None:
    clock = FakeClock()
    loop = Ticker(clock)
    runner, task = started(loop, clock)
    await rest()
    runner.wake()
    await rest()
    assert loop.ticks == [0.0, 0.0]
    await stopped(runner, task)


async def test_a_wake_during_a_tick_is_not_lost() -> None:
    clock = FakeClock()
    loop = Ticker(clock)
    loop.gate = asyncio.Event()
    runner, task = started(loop, clock)
    await rest()
    runner.wake()
    loop.gate.set()
    await rest()
    assert len(loop.ticks) == 2
    await stopped(runner, task)


async def test_stop_lets_a_tick_come_to_its_end_and_begins_no_other() -> None:
    clock = FakeClock()
    loop = Ticker(clock, 0, 0)
    loop.gate = asyncio.Event()
    runner, task = started(loop, clock)
    await rest()
    runner.stop()
    await rest()
    assert not task.done()
    loop.gate.set()
    await rest()
    assert task.done()
    assert len(loop.ticks) == 1


async def test_stop_before_the_start_runs_nothing() -> None:
    clock = FakeClock()
    loop = Ticker(clock)
    runner = LoopRunner(loop, clock, unheard)
    runner.stop()
    await runner.run()
    assert loop.ticks == []


async def test_a_stopped_loop_leaves_no_timer_that_does_anything() -> None:
    clock = FakeClock()
    loop = Ticker(clock, 1.0)
    runner, task = started(loop, clock)
    await rest()
    await stopped(runner, task)
    await clock.advance(100)
    assert len(loop.ticks) == 1


async def test_a_loop_is_closed_once_after_its_last_tick() -> None:
    clock = FakeClock()
    loop = Ticker(clock, 0, 0)
    loop.gate = asyncio.Event()
    runner, task = started(loop, clock)
    await rest()
    runner.stop()
    await rest()
    assert loop.closed == 0, "a tick is under way"
    loop.gate.set()
    await rest()
    assert task.done()
    assert loop.closed == 1


async def test_a_store_that_is_away_does_not_keep_a_loop_from_closing() -> None:
    clock = FakeClock()
    loop = Ticker(clock)
    loop.close_raises = StoreUnavailable("away")
    runner, task = started(loop, clock)
    await rest()
    await stopped(runner, task)
    assert task.exception() is None


async def test_a_defect_in_closing_is_told() -> None:
    clock = FakeClock()
    told: list[tuple[str, str]] = []
    loop = Ticker(clock)
    loop.close_raises = ZeroDivisionError("x")
    runner, task = started(loop, clock, lambda name, error: told.append((name, repr(error))))
    await rest()
    await stopped(runner, task)
    assert task.exception() is None
    assert told == [("ticker", "ZeroDivisionError('x')")]

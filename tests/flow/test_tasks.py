"""Steps that a cancellation does not interrupt, and waiting for tasks that may not end."""

from __future__ import annotations

import asyncio

import pytest

from kiqpy._flow.tasks import TaskSet, ended, together, whole
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio


class Step:
    """A step that owns something until its gate opens."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.gate = asyncio.Event()
        self.ended = False
        self.error = error

    async def run(self) -> str:
        await self.gate.wait()
        self.ended = True
        if self.error is not None:
            raise self.error
        return "result"


async def test_whole_returns_and_raises_what_the_step_does() -> None:
    step = Step()
    step.gate.set()
    assert await whole(step.run()) == "result"
    step = Step(ValueError("no"))
    step.gate.set()
    with pytest.raises(ValueError, match="no"):
        await whole(step.run())


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_whole_lets_a_cancellation_in_only_after_the_step(times: int) -> None:
    step = Step()
    waiting = asyncio.create_task(whole(step.run()))
    for _ in range(times):
        await rest()
        waiting.cancel()
    await rest()
    assert not waiting.done()
    step.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert step.ended


async def test_a_cancelled_whole_says_cancelled_even_if_the_step_fails() -> None:
    step = Step(ValueError("no"))
    waiting = asyncio.create_task(whole(step.run()))
    await rest()
    waiting.cancel()
    await rest()
    step.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_step_that_cancels_itself_is_heard() -> None:
    step = Step(asyncio.CancelledError())
    step.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(whole(step.run()), 5)


async def test_ended_is_true_when_all_end_in_time() -> None:
    clock, steps = FakeClock(), [Step(), Step(ValueError("no"))]
    tasks = {asyncio.create_task(step.run()) for step in steps}
    asking = asyncio.create_task(ended(set(tasks), 5.0, clock))
    await rest()
    for step in steps:
        step.gate.set()
    assert await asking
    await asyncio.wait(tasks)
    assert [task for task in tasks if task.exception()]


async def test_ended_is_false_when_one_does_not_and_nobody_is_cancelled() -> None:
    clock, step = FakeClock(), Step()
    task = asyncio.create_task(step.run())
    asking = asyncio.create_task(ended({task}, 5.0, clock))
    await clock.advance(4.9)
    assert not asking.done()
    await clock.advance(0.2)
    assert not await asking
    assert not task.done()
    step.gate.set()
    assert await task == "result"


async def test_ended_of_nobody_is_true_at_once() -> None:
    assert await ended(set(), 0.0, FakeClock())


async def test_ended_counts_those_who_are_cancelled() -> None:
    task = asyncio.create_task(Step().run())
    asking = asyncio.create_task(ended({task}, 5.0, FakeClock()))
    await rest()
    task.cancel()
    assert await asking


async def test_together_cancels_the_others_when_one_raises() -> None:
    step = Step()

    async def other() -> None:
        await step.run()

    async def breaks() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await together([other, breaks])
    assert not step.ended


async def test_a_task_is_held_until_it_has_ended() -> None:
    tasks, gate = TaskSet(), asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    task = tasks.start(waits(), name="waits")
    assert task.get_name() == "waits"
    await rest()
    assert list(tasks) == [task]
    gate.set()
    await rest()
    assert task.done()
    assert len(tasks) == 0

"""A chain of stages ends from left to right, restarts after a failure, and gives up after four."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kiqpy._flow.chain import RESTARTS, WINDOW_S, Chain, StageLink
from kiqpy._flow.edge import Edge
from kiqpy._flow.stage import Stage
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio


class Count:
    """Puts numbers until it is told to be quiet."""

    def __init__(self, upto: int) -> None:
        self.upto = upto

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Any] | None) -> None:
        assert inlet is None
        assert outlet is not None
        try:
            for n in range(self.upto):
                await outlet.put([n])
        finally:
            outlet.close()


class Breaks:
    """Raises at the number it is given, once for each entry."""

    def __init__(self, seen: list[int], at: list[int]) -> None:
        self.seen, self.at = seen, at

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Any] | None) -> None:
        assert inlet is not None
        while (batch := await inlet.get()) is not None:
            for n in batch:
                if self.at and n == self.at[0]:
                    raise ZeroDivisionError(f"at {self.at.pop(0)}")
                self.seen.append(n)
                inlet.done(1)


class House:
    """Builds chains of `Count` and `Breaks`, and notes what is called."""

    def __init__(self, clock: FakeClock, *breaks_at: int) -> None:
        self.seen: list[int] = []
        self.calls: list[str] = []
        self.breaks_at = list(breaks_at)
        self.chain = Chain(self.build, self.mend, self.restarted, clock)

    def build(self) -> Sequence[StageLink]:
        self.calls.append("build")
        edge: Edge[int] = Edge(2)
        stages: list[Stage] = [Count(5), Breaks(self.seen, self.breaks_at)]
        return [StageLink(stages[0], None, edge), StageLink(stages[1], edge, None)]

    async def mend(self) -> None:
        self.calls.append("mend")

    def restarted(self, error: BaseException, restarts: int) -> None:
        self.calls.append(f"restarted {restarts}: {error}")


async def test_it_ends_when_its_stages_end() -> None:
    house = House(FakeClock())
    await house.chain.run()
    assert house.seen == [0, 1, 2, 3, 4]
    assert house.calls == ["build"]


async def test_after_a_break_it_mends_and_starts_anew() -> None:
    house = House(FakeClock(), 2)
    await house.chain.run()
    assert house.seen == [0, 1, 0, 1, 2, 3, 4]
    assert house.calls == ["build", "mend", "restarted 1: at 2", "build"]


async def test_another_chain_does_not_notice() -> None:
    clock = FakeClock()
    broken, other = House(clock, 1), House(clock)
    await asyncio.gather(broken.chain.run(), other.chain.run())
    assert other.calls == ["build"]
    assert other.seen == [0, 1, 2, 3, 4]


async def test_four_breaks_within_the_window_raise() -> None:
    house = House(FakeClock(), *[0] * (RESTARTS + 1))
    with pytest.raises(ZeroDivisionError, match="at 0"):
        await house.chain.run()
    assert house.calls.count("build") == RESTARTS + 1
    assert house.calls.count("mend") == RESTARTS


class Slow:
    """Breaks each time the clock has moved on by `every`."""

    def __init__(self, clock: FakeClock, every: float) -> None:
        self.clock, self.every = clock, every

    async def run(self, inlet: Edge[Any] | None, outlet: Edge[Any] | None) -> None:
        await self.clock.sleep(self.every)
        raise ZeroDivisionError


async def test_breaks_outside_of_the_window_are_forgotten() -> None:
    clock = FakeClock()
    restarts: list[int] = []

    async def mend() -> None: ...

    chain = Chain(
        lambda: [StageLink(Slow(clock, WINDOW_S / 2 + 1), None, None)],
        mend,
        lambda _error, n: restarts.append(n),
        clock,
    )
    running = asyncio.create_task(chain.run())
    await clock.advance(10 * WINDOW_S)
    assert not running.done()
    assert len(restarts) > RESTARTS + 5
    assert max(restarts) == 2
    running.cancel()
    await rest()


async def test_a_cancelled_chain_does_not_restart() -> None:
    clock = FakeClock()
    house = House(clock)
    house.build = lambda: [StageLink(Slow(clock, 60), None, None)]  # type: ignore[method-assign]
    chain = Chain(house.build, house.mend, house.restarted, clock)
    running = asyncio.create_task(chain.run())
    await rest()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert house.calls == []

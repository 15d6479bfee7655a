"""A cause is reported once, and the number of causes is bounded."""

from __future__ import annotations

import pytest

from kiqpy._flow.once import Once, Troubles
from kiqpy.testing import FakeClock


def test_a_cause_is_reported_the_first_time_only() -> None:
    once = Once()
    assert [once.first(cause) for cause in ("a", "b", "a", "b", "c")] == [
        *(True, True, False, False, True)
    ]


def test_causes_without_end_are_not_reported_without_end() -> None:
    once = Once(limit=3)
    assert [once.first(n) for n in range(5)] == [True, True, True, False, False]
    assert not once.first(0)


@pytest.mark.anyio
class TestTroubles:
    async def test_each_cause_of_a_place_is_told_once_while_it_lasts(self) -> None:
        clock = FakeClock()
        troubles = Troubles(clock)
        told = [troubles.first(*each) for each in (("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"))]
        assert told == [True, False, True, True]
        await clock.advance(1000.0)
        assert not troubles.first("a", "x")

    async def test_an_end_is_told_once_with_how_long_it_took(self) -> None:
        clock = FakeClock()
        troubles = Troubles(clock)
        assert troubles.over("a") is None
        troubles.first("a", "x")
        await clock.advance(70.0)
        assert troubles.over("b") is None
        assert troubles.over("a") == 70.0
        assert troubles.over("a") is None
        assert troubles.first("a", "x"), "it begins anew"

    async def test_what_comes_and_goes_is_told_once_a_minute(self) -> None:
        clock = FakeClock()
        troubles = Troubles(clock)
        told = list[bool]()
        for _ in range(180):
            told.append(troubles.first("a", "x"))
            troubles.over("a")
            await clock.advance(1.0)
        assert told.count(True) == 3

    async def test_causes_without_end_are_not_told_without_end(self) -> None:
        clock = FakeClock()
        troubles = Troubles(clock, limit=3)
        assert [troubles.first("a", str(n)) for n in range(5)] == [*[True] * 3, False, False]
        await clock.advance(1000.0)
        assert not troubles.first("a", "9")
        troubles.over("a")
        assert troubles.first("a", "9")

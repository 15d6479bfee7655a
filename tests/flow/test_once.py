"""A cause is reported once, and the number of causes is bounded."""

from __future__ import annotations

from kiqpy._flow.once import Once


def test_a_cause_is_reported_the_first_time_only() -> None:
    once = Once()
    assert [once.first(cause) for cause in ("a", "b", "a", "b", "c")] == [
        *(True, True, False, False, True)
    ]


def test_causes_without_end_are_not_reported_without_end() -> None:
    once = Once(limit=3)
    assert [once.first(n) for n in range(5)] == [True, True, True, False, False]
    assert not once.first(0)

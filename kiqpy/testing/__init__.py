"""For tests of programs that use kiqpy: time that moves only when the test says so."""

from __future__ import annotations

from kiqpy._fakeclock import FakeClock, rest

__all__ = ["FakeClock", "rest"]

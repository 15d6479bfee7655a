"""For tests of programs that use kiqpy; docs/testing.md shows how.

`async with jobs.testing() as t` needs nothing from here. The rest is for suites that start their
app as in production, with `test_mode`, and for virtual time and a real server of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kiqpy.testing._fakeclock import FakeClock, rest
    from kiqpy.testing._modes import assert_enqueued, enqueued, refute_enqueued, set_mode
    from kiqpy.testing._sandbox.server import PrivateServer
    from kiqpy.testing._sandbox.tally import Drained
    from kiqpy.testing._sandbox.tester import AppTester

__all__ = [
    "AppTester",
    "Drained",
    "FakeClock",
    "PrivateServer",
    "assert_enqueued",
    "enqueued",
    "refute_enqueued",
    "rest",
    "set_mode",
]

_HOMES = {
    "FakeClock": "kiqpy.testing._fakeclock",
    "rest": "kiqpy.testing._fakeclock",
    "PrivateServer": "kiqpy.testing._sandbox.server",
    "Drained": "kiqpy.testing._sandbox.tally",
    "AppTester": "kiqpy.testing._sandbox.tester",
}

if not TYPE_CHECKING:  # checkers would take any name

    def __getattr__(name: str) -> Any:
        """Import when asked: the pytest plugin beside this is loaded at every start of pytest."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOMES.get(name, "kiqpy.testing._modes")), name)

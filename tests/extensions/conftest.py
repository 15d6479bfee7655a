"""Effects that a test adds, and a way to run an app on both stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kiqpy.store.memory import effects as in_memory
from kiqpy.store.redis import scripts

AddEffect = Callable[[str, str, Callable[..., None]], None]


@pytest.fixture
def add_effect(monkeypatch: pytest.MonkeyPatch) -> Iterator[AddEffect]:
    """Adds an effect to both stores for one test: its op, its Lua, its function in memory."""
    known = dict(scripts._effects())

    def add(op: str, lua: str, function: Callable[..., Any]) -> None:
        monkeypatch.setitem(in_memory.EFFECTS, op, function)
        scripts.add_effect(op, lua)

    yield add
    scripts._effects().clear()
    scripts._effects().update(known)
    scripts.script.cache_clear()

"""A fixture that pytest-asyncio runs, once for each of its event loops; see `plugin`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any, Final

import pytest
import pytest_asyncio

_LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")


def is_run_by_asyncio(item: pytest.Item) -> bool:
    """Whether pytest-asyncio runs this test."""
    return pytest_asyncio.is_async_test(item)


def name_of(loop_scope: str) -> str:
    """The fixture that runs in the event loop of this scope."""
    return f"_kiqpy_app_of_asyncio_{loop_scope}"


def fixtures(started: Callable[..., AsyncIterator[Any]]) -> object:
    """A plugin for pytest: the asynchronous generator function as a fixture of each scope."""
    plugin = ModuleType("kiqpy_asyncio")  # pytest looks for fixtures in modules and classes
    vars(plugin).update({name_of(scope): _in_loop(scope, started) for scope in _LOOP_SCOPES})
    return plugin


def _in_loop(loop_scope: Any, started: Callable[..., AsyncIterator[Any]]) -> object:
    @pytest_asyncio.fixture(name=name_of(loop_scope), loop_scope=loop_scope)
    async def in_loop(kiqpy_under_test: object) -> AsyncIterator[Any]:  # a mark sticks to each
        async for app in started(kiqpy_under_test):
            yield app

    return in_loop

"""The fixtures that pytest-asyncio runs, one for each of its event loops; see `plugin`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

import pytest_asyncio

if TYPE_CHECKING:
    from kiqpy import App
    from kiqpy.testing._sandbox.tester import AppTester

_LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")


def name_of(loop_scope: str) -> str:
    """The fixture whose app runs in the event loop of this scope."""
    return f"_kiqpy_app_of_asyncio_{loop_scope}"


def _fixture_in(loop_scope: Any) -> object:
    @pytest_asyncio.fixture(name=name_of(loop_scope), loop_scope=loop_scope)
    async def started(kiqpy_under_test: App) -> AsyncGenerator[AppTester]:
        async with kiqpy_under_test.testing() as t:
            yield t

    return started


globals().update({name_of(scope): _fixture_in(scope) for scope in _LOOP_SCOPES})

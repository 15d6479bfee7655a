"""The stores that effects and locks are tried on; other files have worlds of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server import TestServer
from tests.store.contract import DisturbedWorld, MemoryWorld, RedisWorld, World


@pytest.fixture(params=["memory", "redis", "scripts forgotten"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    else:
        server: TestServer = request.getfixturevalue("clean")
        rude = request.param == "scripts forgotten"
        made = DisturbedWorld(server, "SCRIPT", "FLUSH") if rude else RedisWorld(server)
    yield made
    await made.close()

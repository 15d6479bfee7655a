"""The house for tests of parity: a clean server, nothing has run."""

from __future__ import annotations

import pytest

from tests.parity import shop
from tests.server import TestServer


@pytest.fixture
async def house(clean: TestServer, anyio_backend: object) -> shop.House:
    shop.begin()
    return shop.House(clean)

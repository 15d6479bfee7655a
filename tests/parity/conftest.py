"""Fixtures for the parity tests: a clean server, and nothing has run."""

from __future__ import annotations

import pytest

from tests.parity import parity_app
from tests.server import TestServer


@pytest.fixture
async def house(clean: TestServer, anyio_backend: object) -> parity_app.House:
    parity_app.begin()
    return parity_app.House(clean)

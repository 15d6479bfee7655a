"""An app that only looks, its dashboard, and a visitor of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kiqpy import App, worker
from tests.server import TestServer
from tests.web.visitor import Visitor


@worker(queue="mail")
async def tidy(n: int) -> None: ...


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIQPY_WEB_AUTH", raising=False)


@pytest.fixture
async def app(clean: TestServer) -> AsyncIterator[App]:
    app = App(
        redis_url=clean.url,
        queues={"mail": 5},
        workers=[tidy],
        periodics=[("0 3 * * *", tidy, {"args": [1], "name": "nightly"})],
    )
    async with app.client_only():
        yield app


@pytest.fixture
async def visitor(app: App, clean: TestServer) -> AsyncIterator[Visitor]:
    visitor = Visitor(app.dashboard(), clean)
    async with visitor.client:
        yield visitor

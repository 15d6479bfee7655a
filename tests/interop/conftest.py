"""A real Sidekiq on the test's own server; where there is none, what needs it is skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import ruby as real
from tests.interop.ruby import Ruby
from tests.server import TestServer


@pytest.fixture(scope="session")
def desk() -> Iterator[Ruby]:
    """One Ruby for each xdist worker."""
    if not real.is_here():
        pytest.skip(real.MISSING)
    started = Ruby()
    yield started
    started.close()


@pytest.fixture
def ruby(desk: Ruby, clean: TestServer) -> Ruby:
    """Ruby on an empty database."""
    desk.ask("at", clean.url)
    return desk


@pytest.fixture
def clean(clean: TestServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestServer]:
    """The jobs of both languages find it; what they have told goes when the test has ended."""
    monkeypatch.setenv("INTEROP_SOCKET", str(clean.socket))
    yield clean
    told = clean.cli("KEYS", "test:*")
    assert isinstance(told, list)
    if told:
        clean.cli("DEL", *map(str, told))

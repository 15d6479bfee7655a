"""Fixtures for the tests of the commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.operator import Operator
from tests.server import TestServer


@pytest.fixture(autouse=True)
def hup_is_heard() -> Iterator[None]:
    """Under nohup children inherit that it is ignored, and `kiqpy run` leaves that as it is."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def operator(
    clean: TestServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Operator:
    monkeypatch.chdir(tmp_path)
    for name in ("KIQPY_REDIS_URL", "REDIS_URL", "KIQPY_APP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("kiqpy.cli._logs.configure", lambda *_: None)  # pytest keeps its logging
    return Operator(clean, capsys)

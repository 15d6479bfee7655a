"""Fixtures for the tests of the commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.operator import Operator
from tests.server import TestServer


@pytest.fixture(autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """Children inherit what is ignored: HUP under nohup, INT in the background of a script."""
    numbers = (signal.SIGHUP, signal.SIGINT)
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


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

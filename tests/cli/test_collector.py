"""`kiqpy run` collects garbage less often, unless the application decides otherwise."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from tests.cli.process import Kiqpy
from tests.server import TestServer, until

DEFAULT = gc.get_threshold()
APP = """
import gc, pathlib
from kiqpy import App, worker

@worker
async def tells() -> None:
    path = pathlib.Path(__file__).with_name("told")
    text = f"{gc.get_threshold()} {gc.isenabled()} {gc.get_freeze_count() > 0}"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)

class Jobs(App):
    workers = [tells]

jobs = Jobs()
"""


def told(folder: Path, server: TestServer, *words: str) -> str:
    payload = {"class": "tells", "args": [], "queue": "default", "jid": "a", "retry": False}
    server.cli("LPUSH", "queue:default", json.dumps(payload))
    with Kiqpy(folder, "run", "app:jobs", "--redis", server.url, *words):
        until((folder / "told").exists, "the job", 60)
    return (folder / "told").read_text()


@pytest.mark.parametrize(
    ("first", "words", "expected"),
    [
        ("", (), "(50000, 20, 100) True True"),
        ("", ("--gc", "off"), f"{DEFAULT} True False"),
        ("import gc; gc.set_threshold(9000)\n", (), f"{(9000, *DEFAULT[1:])} True False"),
        ("import gc; gc.disable()\n", (), f"{DEFAULT} False False"),
    ],
    ids=["tuned", "left", "the app's thresholds", "switched off"],
)
def test_the_collector_of_a_worker_process(
    tmp_path: Path, clean: TestServer, first: str, words: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "app.py").write_text(first + APP)
    assert told(tmp_path, clean, *words) == expected

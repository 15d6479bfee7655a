"""The tests on docs/testing.md pass, and a failure says what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.page import snippets

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
FOUND = [s.code for s in snippets(PAGE, "testing.md") if s.why_not is None]
BACKEND = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    tests = [code for code in FOUND if "def test_" in code]
    (tmp_path / "test_page.py").write_text("\n".join([FOUND[0], *tests, BACKEND]))
    (tmp_path / "pytest.ini").write_text("[pytest]\nkiqpy_app = test_page:jobs\npythonpath = .\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "anyio",
            "-p", "kiqpy.testing.plugin", "-W", "error",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.anyio
async def test_a_failure_says_what_the_page_says() -> None:
    page = ModuleType("page")
    exec(compile(FOUND[0], "testing.md", "exec"), page.__dict__)
    said = re.search(r"```\n(Expected 2 jobs.*?)```", PAGE, re.DOTALL)
    assert said is not None
    async with page.jobs.testing() as t:
        await page.sign_up(7)
        with pytest.raises(AssertionError) as info:
            t.assert_enqueued(page.send_welcome, args=[8], count=2)
    assert str(info.value) == said[1].rstrip("\n")

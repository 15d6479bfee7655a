"""docs/sidekiq.md: each row of its table is a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_is_a_test() -> None:
    page = (ROOT / "docs" / "sidekiq.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / "interop" / file).read_text("utf-8"), (
            file,
            name,
        )

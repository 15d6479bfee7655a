"""README's table of figures is made from the saved benchmark result."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.summary import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def shown() -> Path:
    """The result whose picture README shows."""
    [picture] = re.findall(r"\]\((benchmarks/results/[^)]+)\.svg\)", README)
    return ROOT / f"{picture}.json"


def test_the_table_is_of_the_result_whose_picture_is_shown() -> None:
    result = shown()
    assert result.with_suffix(".svg").exists()
    made = table(json.loads(result.read_text()))
    assert made in README
    assert made.count("\n") == 9


def test_another_result_makes_another_table() -> None:
    told = json.loads(shown().read_text())
    for result in told["results"]:
        for run in result["runs"]:
            run.update({figure: 2 * value for figure, value in run.items()})
    assert table(told) not in README

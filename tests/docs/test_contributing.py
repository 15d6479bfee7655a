"""Every path in CONTRIBUTING.md exists, and so does every name that is given with a path."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PLACES = sorted(set(re.findall(r"`((?:kiqpy|tests|benchmarks|docs)/[\w/.]*(?::\w+)?)`", TEXT)))


def defined(path: Path) -> set[str]:
    """The names of a module's classes and functions."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_named_exists(place: str) -> None:
    path, _, name = place.partition(":")
    assert (ROOT / path).exists(), f"CONTRIBUTING.md names {path}"
    assert not name or name in defined(ROOT / path), f"CONTRIBUTING.md names {place}"


def test_the_tour_and_the_way_of_a_job_are_there() -> None:
    assert len(PLACES) > 30
    assert TEXT.count("\n- **") == 5
    assert len(TEXT.splitlines()) <= 80, "one page"


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^):#]+)\)", TEXT)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_order_of_the_tests_names_every_folder() -> None:
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert {name for name in folders if f"`{name}/`" not in page} == set()

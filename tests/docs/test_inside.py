"""kiqpy/README.md: its listing is the folder, its terms are the code's, its anchors are unique."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kiqpy

FOLDER = Path(kiqpy.__file__).parent
TEXT = (FOLDER / "README.md").read_text("utf-8")
SOURCE = " ".join(
    re.sub(r"\s+", " ", path.read_text("utf-8"))
    for pattern in ("*.py", "*.lua")
    for path in FOLDER.rglob(pattern)
).lower()


def section(name: str) -> str:
    return TEXT.split(f"\n## {name}\n")[1].split("\n## ")[0]


TERMS = re.findall(r"^\| ([a-z ]+) \| [^|]{10,} \|$", section("Glossary"), re.MULTILINE)


def test_the_listing_is_the_folder() -> None:
    cells = re.findall(r"^\| (`.*?) \|", section("Listing"), re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    there = {
        path.stem
        for path in FOLDER.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(listed) == sorted(there - {"__init__"})


def test_there_are_about_25_terms_in_order() -> None:
    assert 24 <= len(TERMS) <= 40
    assert sorted(TERMS) == TERMS


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_the_codes(term: str) -> None:
    """In a name, a docstring or a comment; what the code has not, the glossary must not teach."""
    assert re.search(rf"\b{term}|_{term}", SOURCE), f"the code has no {term!r}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+\.(?:py|lua))`", TEXT))))
def test_a_path_exists(path: str) -> None:
    assert (FOLDER / path).exists() or (FOLDER.parent / path).exists()


def test_each_decision_has_an_anchor_of_its_own() -> None:
    decisions = section("Decisions")
    anchors = re.findall(r'^<a id="([a-z-]+)"></a>\*\*', decisions, re.MULTILINE)
    paragraphs = [text for text in decisions.split("\n\n")[2:] if not text.startswith("###")]
    assert len(set(anchors)) == len(anchors) == len(paragraphs)

"""Every page of docs/: its snippets run, or say why not; its links exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.page import run, snippets
from tests.server import TestServer

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
_OURS = ("KIQPY_", "REDIS_URL", "PYTEST_")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.slow
@every_page
def test_the_snippets_run(page: Path, clean: TestServer, tmp_path: Path) -> None:
    """In a process of its own, in an empty folder, with a server in REDIS_URL."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.page", str(page)], cwd=tmp_path,
        env={**inherited, "PYTHONPATH": str(ROOT), "REDIS_URL": clean.url},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was never awaited" not in done.stderr, done.stderr
    wanted = [s for s in snippets(page.read_text("utf-8"), page.name) if s.why_not is None]
    assert int(done.stdout) == len(wanted)
    clean.cli("FLUSHALL")  # a page may leave jobs of its own


@every_page
def test_the_snippets_are_python_and_say_why_they_do_not_run(page: Path) -> None:
    for snippet in snippets(page.read_text("utf-8"), page.name):
        snippet.compiled()
        assert snippet.why_not != "", f"{page.name}:{snippet.line}: ```python no-run: why?"
        known = not snippet.info or snippet.why_not is not None
        assert known, f"{page.name}:{snippet.line}: what is {snippet.info!r}?"


@every_page
def test_the_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text("utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


# -- the runner itself


def write(folder: Path, text: str) -> Path:
    page = folder / "a-page.md"
    page.write_text(text)
    return page


def test_snippets_share_a_namespace_and_may_await(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        "```python\nimport asyncio\nx = 1\n```\n\n```\nnot python\n```\n"
        "- in a list\n  ```python\n  await asyncio.sleep(0)\n  if x:\n      print(x + 1)\n  ```\n"
        "\n<!-- output -->\n```\n2\n```\n"
        "```python\nasync def main(): print(x)\nasyncio.run(main())\n```\n\n"
        "<!-- output -->\n```\n1\n```\n",
    )
    text = page.read_text()
    assert [snippet.output for snippet in snippets(text, "x")] == [None, "2\n", "1\n"]
    assert run(page) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "```python\nprint(1)\n```\n\n<!-- output -->\n```\n2\n```\n",
            r"prints '1\\n', not '2\\n'",
        ),
        ("```python\nraise KeyError('x')\n```\n", "x"),
        ("```python\nx = = 1\n```\n", "invalid syntax"),
        ("```py\nx = 1\n```\n", "say ```python"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises((AssertionError, KeyError, SyntaxError, ValueError), match=complaint):
        run(write(tmp_path, text))


def test_an_error_has_the_pages_line(tmp_path: Path) -> None:
    page = write(tmp_path, "# title\n\n```python\nx = 1\nx.nope\n```\n")
    with pytest.raises(AttributeError) as caught:
        run(page)
    assert caught.traceback[-1].lineno == 4  # counted from 0


def test_what_is_not_run_says_why(tmp_path: Path) -> None:
    page = write(tmp_path, "```python no-run: needs a mail server\nsend()\n```\n")
    assert run(page) == 0
    assert [s.why_not for s in snippets(page.read_text(), "x")] == ["needs a mail server"]
    bare = "```python no-run\nsend()\n```\n"
    assert [s.why_not for s in snippets(bare, "x")] == [""]

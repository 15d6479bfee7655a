"""The snippets of README and docs/ pass mypy --strict and pyright, as in an editor of a reader.

Each page becomes one module with the page's own line numbers, so that an error leads to its line.
A page that awaits at the top becomes the body of one async function.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.page import Snippet, snippets

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))

pytestmark = pytest.mark.slow


def module(pieces: Iterable[Snippet]) -> str:
    """The pieces as one module, each at the lines that it has on its page."""
    pieces = [piece for piece in pieces if importable(piece.code)]
    inside = any(awaits(piece) for piece in pieces)
    lines: list[str] = ["async def page() -> None:"] if inside else []
    for piece in pieces:
        code = textwrap.indent(piece.code, "    ") if inside else piece.code
        lines += [""] * (piece.line - 1 - len(lines))
        lines += code.rstrip("\n").split("\n")
    return "\n".join(lines) + "\n"


def awaits(piece: Snippet) -> bool:
    try:
        compile(piece.code, piece.page, "exec", dont_inherit=True)
    except SyntaxError:
        return True
    return False


def importable(code: str) -> bool:
    """Whether all packages are here; pytest-asyncio, say, is not."""
    tree = compile(
        code, "snippet", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )  # fmt: skip
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return all(find_spec(name) for name in names)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one module for each page; README's snippets are programs of their own."""
    folder = tmp_path_factory.mktemp("snippets")
    for page in PAGES:
        pieces = list(snippets(page.read_text("utf-8"), page.name))
        if pieces:
            (folder / f"docs_{page.stem.replace('-', '_')}.py").write_text(module(pieces))
    readme = (ROOT / "README.md").read_text("utf-8")
    for n, piece in enumerate(snippets(readme, "README.md"), 1):
        (folder / f"readme_{n}.py").write_text(module([piece]))
    return folder


def run(folder: Path, *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran.stdout.replace(f"{folder}/", "")


def test_mypy(modules: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    out = run(
        modules, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
        "--explicit-package-bases", "--cache-dir", str(tmp_path),
        *map(str, sorted(modules.glob("*.py"))),
    )  # fmt: skip
    assert out.splitlines() == []


def test_pyright(modules: Path) -> None:
    pytest.importorskip("pyright", reason="pyright is not installed")
    settings = {
        "include": ["*.py"],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "reportUnusedVariable": False,  # a snippet shows a value and does nothing with it
        "reportUnusedFunction": False,
        "reportUnusedClass": False,
        "reportUnknownLambdaType": False,
    }
    project = modules / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    out = run(modules, "-m", "pyright", "-p", str(project), "--pythonpath", sys.executable)
    assert re.findall(r"^  (.*error: .*)$", out, re.MULTILINE) == []


def test_a_wrong_line_is_found_at_its_line(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    text = "# title\n\n```python\nx: int = 'a'\n```\n\n```python\nawait f()\ny: int = 'b'\n```\n"
    path = tmp_path / "page.py"
    path.write_text(module(snippets(text, "page.md")))
    out = run(tmp_path, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(path))
    assert re.findall(r":(\d+): error", out) == ["4", "8", "9"]

"""Finds the Python snippets of a page, and runs them in order in one namespace.

`python page.py docs/embedding.md` runs them as a reader would, one after the other; they may use
`await` at the top. What a snippet prints is compared with the block after it, if that one is marked
`<!-- output -->`. A fence ` ```python no-run: why ` is compiled only.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
import sys
import types
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_OUTPUT = re.compile(r"\s*<!-- output -->\s*```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NO_RUN = re.compile(r"no-run\b[\s:,(-]*(?P<why>.*)")


class Snippet(NamedTuple):
    """A piece of Python on a page; `line` is its first in the file."""

    page: str
    line: int
    info: str
    code: str
    output: str | None

    @property
    def why_not(self) -> str | None:
        """Why it is not run; None if it is. Empty: nobody has said why."""
        found = _NO_RUN.match(self.info)
        return None if found is None else found["why"].rstrip(") ")

    def compiled(self) -> types.CodeType:
        """With the page's own line numbers, so that a traceback leads there."""
        return compile(
            "\n" * (self.line - 1) + self.code, self.page, "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True,
        )  # fmt: skip


def snippets(text: str, page: str) -> Iterator[Snippet]:
    """Every fence that says `python`, with what is to follow the word."""
    for found in _FENCE.finditer(text):
        language, _, info = found["info"].strip().partition(" ")
        if language in ("py", "python3", "Python"):
            raise ValueError(f"{page}: ```{language}: say ```python, which is run")
        if language != "python":
            continue
        output = _OUTPUT.match(text, found.end())
        yield Snippet(
            page, text.count("\n", 0, found.start("body")) + 1, info.strip(),
            re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE),
            output[1] if output else None,
        )  # fmt: skip


def run(path: Path) -> int:
    """Run a page; how many snippets were run. Raises what one of them raises."""
    module = types.ModuleType(path.stem.replace("-", "_"))
    sys.modules[module.__name__] = module
    done = 0
    with asyncio.Runner() as runner:
        for snippet in snippets(path.read_text("utf-8"), str(path)):
            if snippet.why_not is None:
                _run(snippet, module, runner)
                done += 1
    return done


def _run(snippet: Snippet, module: types.ModuleType, runner: asyncio.Runner) -> None:
    code = snippet.compiled()
    function: Any = types.FunctionType(code, module.__dict__)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        running = function()
        if isinstance(running, Coroutine):
            runner.run(running)
    if snippet.output is not None and printed.getvalue() != snippet.output:
        raise AssertionError(
            f"{snippet.page}:{snippet.line} prints {printed.getvalue()!r}, not {snippet.output!r}"
        )


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))

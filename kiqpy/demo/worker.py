"""The demo's job: parse one Python file, in a child process because parsing uses the CPU."""

from __future__ import annotations

import ast
import functools
import heapq
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kiqpy.clock import SystemClock
from kiqpy.current import current_job
from kiqpy.demo.results import ParsedFile, Results
from kiqpy.job import Job
from kiqpy.worker import worker

RETRIES: Final = 2
_PAUSE_S: Final = 0.2
_LONGEST_FUNCTIONS: Final = 10  # kept of each file: all ten of the report may be in one
_clock = SystemClock()
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def retry_soon(_retry_count: int, _error: BaseException, _job: Job) -> float:
    """A constant short delay, so that the demo does not wait for retries."""
    return _PAUSE_S


@worker(
    name="kiqpy-demo",
    executor="process",
    retry=RETRIES,
    backoff=retry_soon,
    timeout=30,
    queue="demo",
)
def parse_file(run: str, database: str, path: str) -> None:
    """Parse a file and save its counts; a file that has been saved is skipped."""
    began = _clock.now()
    waited_s = max(0.0, began - (current_job().enqueued_at or began))
    results = _open(database)
    if results.is_todo(run, path):
        found = parse(Path(path).read_bytes(), path)
        results.parsed(run, path, found, waited_s, _clock.now() - began)


@functools.lru_cache(maxsize=1)
def _open(database: str) -> Results:
    """Open the results once for each child process, which parses hundreds of files."""
    return Results(database)


def parse(source: bytes, name: str) -> ParsedFile:
    """Count lines, functions and imports. Raises SyntaxError or ValueError if it is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source, name)
    functions = [(_length(node), node.name, node.lineno) for node in _functions(tree)]
    return ParsedFile(
        len(source.splitlines()),
        len(functions),
        sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)),
        heapq.nsmallest(_LONGEST_FUNCTIONS, functions, key=lambda found: (-found[0], found[2])),
    )


def _functions(tree: ast.Module) -> Iterator[_Function]:
    return (node for node in ast.walk(tree) if isinstance(node, _Function))


def _length(function: _Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1

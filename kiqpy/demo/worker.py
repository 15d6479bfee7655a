"""The demo's job: read one Python file. It runs in a child process, for parsing takes the CPU."""

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
from kiqpy.demo.results import Parsed, Results
from kiqpy.job import Job
from kiqpy.worker import worker

RETRIES: Final = 2
_PAUSE_S: Final = 0.2
_LONGEST: Final = 10  # of one file: all ten may be in it
_clock = SystemClock()
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def soon(_retry_count: int, _error: BaseException, _job: Job) -> float:
    """Nobody wants to watch a demo wait."""
    return _PAUSE_S


@worker(
    name="kiqpy-demo", executor="process", retry=RETRIES, backoff=soon, timeout=30, queue="demo"
)
def parse_file(run: str, database: str, path: str) -> None:
    """Parse a file and write down what is in it; one that is written down already is skipped."""
    began = _clock.now()
    waited_s = max(0.0, began - (current_job().enqueued_at or began))
    results = _open(database)
    if results.is_todo(run, path):
        found = parse(Path(path).read_bytes(), path)
        results.parsed(run, path, found, waited_s, _clock.now() - began)


@functools.lru_cache(maxsize=1)
def _open(database: str) -> Results:
    """Kept open: a child does hundreds of files."""
    return Results(database)


def parse(source: bytes, name: str) -> Parsed:
    """Count what a module holds. Raises SyntaxError or ValueError if it is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source, name)
    functions = [(_length(node), node.name, node.lineno) for node in _functions(tree)]
    return Parsed(
        len(source.splitlines()),
        len(functions),
        sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)),
        heapq.nsmallest(_LONGEST, functions, key=lambda found: (-found[0], found[2])),
    )


def _functions(tree: ast.Module) -> Iterator[_Function]:
    return (node for node in ast.walk(tree) if isinstance(node, _Function))


def _length(function: _Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1

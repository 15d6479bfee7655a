"""Writes what a process is doing: all tasks and the stacks of all threads, on TTIN."""

from __future__ import annotations

import asyncio
import faulthandler
import linecache
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


def dump() -> None:
    """Write all tasks, with the line each waits at, and the stacks of all threads to stderr."""
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    _write(f"process {os.getpid()} has {len(tasks)} tasks")
    for task in tasks:
        _write(f"Task {task.get_name()} (most recent call last):")
        for frame, line in frames(task):
            path = frame.f_code.co_filename
            _write(f"  File {path!r}, line {line}, in {frame.f_code.co_name}")
            _write(f"    {linecache.getline(path, line).strip()}")
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)


def _write(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201  # beside the stacks, which faulthandler writes there


def frames(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """Each frame of the task's chain of awaits; `Task.get_stack` returns only the first."""
    step: Any = task.get_coro()
    while step is not None:
        frame = _first(step, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            yield frame, frame.f_lineno
        step = _first(step, "cr_await", "gi_yieldfrom", "ag_await")


def _first(step: object, *names: str) -> Any:
    return next((getattr(step, name) for name in names if hasattr(step, name)), None)

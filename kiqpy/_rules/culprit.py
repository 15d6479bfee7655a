"""Who blocks an event loop, judged by the stack of its thread; never by values of variables."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from kiqpy._rules.backoff import utf8
from kiqpy._rules.remote import CodeLine
from kiqpy._rules.stack import is_library

_MAX_FRAMES_SHOWN: Final = 30
_OURS: Final = os.path.join(Path(__file__).parents[1], "")


class Culprit(NamedTuple):
    """What blocks a loop: the function's name, the line it is at, the stack from there on."""

    by: str
    at: str
    stack: str


def stack_of(thread: int) -> list[CodeLine]:
    """What a thread does now, outermost frame first. From any thread."""
    read: Callable[[], dict[int, FrameType]] = vars(sys)["_current_frames"]  # documented, so named
    frame = read().get(thread)
    found: list[CodeLine] = []
    while frame is not None:
        code = frame.f_code
        found.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return found[::-1]


def culprit(step: Sequence[CodeLine]) -> Culprit | None:
    """Of the step that a loop is at: the job's own function, else the innermost of no library.

    `step`: the frames within the loop's own. None if nobody's code is to blame: the loop is at no
    step, and what kept it is not its doing.
    """
    ours = [at for at, frame in enumerate(step) if frame[0].startswith(_OURS)]
    inner = step[max(ours, default=-1) + 1 :] or step
    users = [frame for frame in inner if not is_library(frame[0])]
    if not users:
        return None
    is_job = len(inner) < len(step)
    file, line, function = users[0] if is_job else users[-1]
    return Culprit(function, f"{file}:{line}", utf8("\n".join(_told(inner))))


def _told(frames: Sequence[CodeLine]) -> Iterator[str]:
    yield "Stack (most recent call last):"
    if (hidden := len(frames) - _MAX_FRAMES_SHOWN) > 0:
        yield f"  ({hidden} frames more)"
    for file, line, function in frames[-_MAX_FRAMES_SHOWN:]:
        yield f'  File "{file}", line {line}, in {function}'
        if source := linecache.getline(file, line).strip():
            yield f"    {source}"

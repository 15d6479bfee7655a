"""Where an error came from, as text: bounded, without the values of arguments and variables."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, cast

from kiqpy._rules.backoff import class_name, message, shown, utf8
from kiqpy._rules.remote import CodeLine, RemoteTraceback, code_lines, remote_lines

MAX_FRAMES: Final = 1000  # of a backtrace: what runs into Python's recursion limit has as many
_MAX_FRAMES_LOGGED: Final = 30  # of each error
_MAX_ERRORS_LOGGED: Final = 5  # of a chain of causes, and of a group
_MAX_MESSAGE_CHARS_LOGGED: Final = 1000

_OURS: Final = os.path.join(Path(__file__).parents[1], "")
_STANDARD: Final = os.path.join(os.path.dirname(os.__file__), "")
_INSTALLED: Final = {"site-packages", "dist-packages"}  # folders
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n"
_MEANWHILE: Final = "\nDuring handling of the above exception, another exception occurred:\n"


def backtrace(error: BaseException, keep: object) -> list[str]:
    """The stack as Sidekiq keeps it, innermost frame first; `keep`: True, or how many frames."""
    most = keep if isinstance(keep, int) and keep is not True else MAX_FRAMES
    kept = islice(reversed(_frames(error)), min(max(0, most), MAX_FRAMES))
    return [shown(f"{file}:{line}:in `{function}'") for file, line, function in kept]


def place(error: BaseException) -> str:
    """File and line of the innermost frame that is no library's: "FILE:LINE in FUNCTION", or ""."""
    frames = _frames(error)
    if not frames:
        return ""
    users = (frame for frame in reversed(frames) if not is_library(frame[0]))
    file, line, function = next(users, frames[-1])
    return f"{file}:{line} in {function}"


def traceback(error: BaseException) -> str:
    """The stack as Python prints it, causes and the errors of a group included, kiqpy's frames not.

    An error that was raised by nothing but kiqpy has no stack: "".
    """
    return "" if error.__traceback__ is None else utf8("\n".join(_told(error)))


def _told(error: BaseException) -> Iterator[str]:
    for cause, link in _causes(error):
        yield from _told_alone(cause)
        yield link
    yield from _told_alone(error)
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        for held in inner[:_MAX_ERRORS_LOGGED]:
            yield from (f"  | {line}" for line in "\n".join(_told_alone(held)).split("\n"))


def _causes(error: BaseException) -> list[tuple[BaseException, str]]:
    """The errors that led to this one, first one first, and the words between it and the next."""
    found: list[tuple[BaseException, str]] = []
    while len(found) < _MAX_ERRORS_LOGGED:
        link = _CAUSED if error.__cause__ is not None else _MEANWHILE
        earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if earlier is None or isinstance(earlier, RemoteTraceback):  # its frames are the error's
            break
        found.append((earlier, link))
        error = earlier
    return found[::-1]


def _told_alone(error: BaseException) -> Iterator[str]:
    frames = [frame for frame in _frames(error) if not frame[0].startswith(_OURS)]
    if frames:
        yield "Traceback (most recent call last):"
    if (hidden := len(frames) - _MAX_FRAMES_LOGGED) > 0:
        yield f"  ({hidden} frames more)"
    for file, line, function in frames[-_MAX_FRAMES_LOGGED:]:
        yield f'  File "{file}", line {line}, in {function}'
        if source := linecache.getline(file, line).strip():
            yield f"    {source}"
    yield f"{class_name(error)}: {message(error)[:_MAX_MESSAGE_CHARS_LOGGED]}"


def _frames(error: BaseException) -> list[CodeLine]:
    """Outermost first; of an error that a child process raised, those of the child come last."""
    return [*code_lines(error), *remote_lines(error)]


@lru_cache(maxsize=4096)
def is_library(file: str) -> bool:
    """Whether a file is of kiqpy, of Python, or of an installed package."""
    standard = file.startswith((_OURS, _STANDARD, "<frozen"))
    return standard or not _INSTALLED.isdisjoint(Path(file).parts)

"""Errors that come from another process: as they were if possible, else under their own name."""

from __future__ import annotations

import pickle
from traceback import format_exception, walk_tb
from typing import NamedTuple

from kiqpy._rules.backoff import message

CodeLine = tuple[str, int, str]  # file, line, function; outermost first


class RemoteTraceback(Exception):
    """The cause of an error that another process raised: its traceback there, as text."""

    def __init__(self, text: str, lines: list[CodeLine]) -> None:
        super().__init__(text)
        self.text = text
        self.lines = lines

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteError(Exception):
    """Stands for an error that can't be rebuilt here. Its class has the name of the original."""


class ErrorReport(NamedTuple):
    """An error as it travels between processes. Every field can be pickled."""

    pickled: bytes | None  # None: the error can't be rebuilt from its pickle
    module: str
    name: str
    message: str
    text: str
    lines: list[CodeLine]


def report(error: BaseException, skip: int = 0) -> ErrorReport:
    """Describe an error; never raises. `skip`: so many of the outermost frames are kiqpy's."""
    kind = type(error)
    return ErrorReport(
        pickled=_pickled(error),
        module=kind.__module__,
        name=kind.__qualname__,
        message=message(error),
        text=_text(error),
        lines=code_lines(error)[skip:],
    )


def code_lines(error: BaseException) -> list[CodeLine]:
    """Where an error was raised in this process; [] if it was raised nowhere here."""
    # Not traceback.extract_tb: it reads every source file.
    walked = walk_tb(error.__traceback__)
    return [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in walked]


def remote_lines(error: BaseException) -> list[CodeLine]:
    """Where an error was raised in another process; [] if it was raised in this one."""
    cause = error.__cause__
    return cause.lines if isinstance(cause, RemoteTraceback) else []


def _text(error: BaseException) -> str:
    try:
        return "".join(format_exception(error))
    except BaseException:  # its `__str__` is user code
        return "(the traceback could not be read)\n"


def _pickled(error: BaseException) -> bytes | None:
    """The pickle, if it makes the same class with the same words again."""
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        again = pickle.loads(pickled)
    except BaseException:  # whatever user code raises
        return None
    same = type(again) is type(error) and message(again) == message(error)
    return pickled if same else None


def rebuilt(told: ErrorReport) -> BaseException:
    """The error, or one of the same name and message; its cause is a `RemoteTraceback`."""
    error = _unpickled(told.pickled) or _stand_in(told)
    error.__cause__ = RemoteTraceback(told.text, told.lines)
    return error


def _unpickled(pickled: bytes | None) -> BaseException | None:
    try:
        error = None if pickled is None else pickle.loads(pickled)
    except BaseException:  # this process may lack what the other one has
        return None
    return error if isinstance(error, BaseException) else None


def _stand_in(told: ErrorReport) -> RemoteError:
    made = type(told.name.rpartition(".")[2], (RemoteError,), {"__module__": told.module})
    made.__qualname__ = told.name
    error: RemoteError = made(told.message)
    return error

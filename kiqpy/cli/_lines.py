"""Log lines as JSON, made for a worker that writes two of them for each of 40,000 jobs a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Final, TextIO, final

import structlog
from structlog.typing import EventDict, WrappedLogger

from kiqpy.clock import SystemClock
from kiqpy.errors import ArgumentError
from kiqpy.job import encode

_now: Final = SystemClock.now
_encoder: Final = json.JSONEncoder(ensure_ascii=False, default=repr)


@final
class Output:
    """A stream that is written to once a turn of the event loop; at once where there is no loop.

    What was logged in the turn in which a process is killed may be lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: list[str] = []

    def write(self, text: str) -> None:
        self._held.append(text)
        if len(self._held) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write what is held, from any thread."""
        held, self._held = self._held, []
        if held:
            self._stream.write("".join(held))
            self._stream.flush()


@final
class Stamp:
    """Adds the time in UTC; the text of a second is made once."""

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        now = _now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        line["timestamp"] = f"{self._text}.{int((now - second) * 1e6):06d}Z"
        return line


@final
class Writer:
    """What structlog calls with a finished line."""

    def __init__(self, output: Output, name: str = "") -> None:
        self.name = name
        self._output = output

    def msg(self, line: str) -> None:
        self._output.write(line + "\n")

    debug = info = warning = warn = error = critical = fatal = failure = exception = log = msg


def configure(level: str, output: Output) -> None:
    """Let structlog write JSON lines from `level` up, past the standard library's logging."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name,
            Stamp(),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=partial(Writer, output),
        cache_logger_on_first_use=True,
    )


def _add_name(logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    if logger.name:
        line["logger"] = logger.name
    return line


def _render(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    with contextlib.suppress(ArgumentError):  # then there is more in it than JSON's own values
        return encode(line, checked=True).decode()
    try:
        return _encoder.encode(line)
    except (ValueError, TypeError) as error:  # a key that is no text, a value that holds itself
        return _encoder.encode({"event": str(line.get("event")), "log_error": str(error)})

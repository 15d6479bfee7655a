"""Log lines as JSON, made for a worker that writes two of them for each of 40,000 jobs a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import json.encoder
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TextIO, final

import structlog
from structlog.typing import EventDict, WrappedLogger

from kiqpy._payload.json import encode
from kiqpy.clock import SystemClock
from kiqpy.current import current_job
from kiqpy.errors import ArgumentError
from kiqpy.observe._sinks import LEVELS, LogLine, LogWriter, fields_of

_now: Final = SystemClock.now
_encoder: Final = json.JSONEncoder(ensure_ascii=False, default=repr)
_text: Final = json.encoder.encode_basestring


@final
class Output:
    """A stream that is written to once a turn of the event loop; at once where there is no loop.

    What was logged in the turn in which a process is killed may be lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: deque[str] = deque()  # threads write, too; its own steps are atomic
        self._loop: asyncio.AbstractEventLoop | None = None  # it is to flush what is held
        self._lost = 0

    def write(self, text: str) -> None:
        self._held.append(text)
        if self._loop is None or self._loop.is_closed():
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
            else:
                self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is held, from any thread.

        A stream that fails (a full disk, a pipe that nobody reads) ends nothing else. How many
        lines it cost is the first line when it works again.
        """
        self._loop = None
        held: list[str] = []
        with contextlib.suppress(IndexError):
            while True:
                held.append(self._held.popleft())
        if not held:
            return
        if self._lost:
            held.insert(0, _encoder.encode({"event": "log.lost", "lines": self._lost}) + "\n")
        try:
            self._write("".join(held))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            text = "".join(held[1:] if self._lost else held)
            self._lost += text.count("\n")
        else:
            self._lost = 0

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # half a surrogate pair, say: no reason to lose the others
            encoding = self._stream.encoding or "utf-8"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


@final
class Stamp:
    """Adds the time in UTC; the text of a second is made once."""

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["timestamp"] = self.now()
        return line

    def now(self) -> str:
        """The time as text."""
        now = _now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{int((now - second) * 1e6):06d}Z"


@final
class Writer:
    """What structlog calls with a finished line."""

    def __init__(self, output: Output, name: str = "") -> None:
        self.name = name
        self._output = output

    def msg(self, line: str) -> None:
        self._output.write(line + "\n")

    debug = info = warning = warn = error = critical = fatal = failure = exception = log = msg


@final
class Factory:
    """Makes structlog's loggers; and the short cut past structlog while it is as we set it up."""

    def __init__(self, least: int, output: Output) -> None:
        self._output, self._least, self._stamp = output, least, Stamp()
        self._processors = (
            merge_context,
            structlog.processors.add_log_level,
            _add_name,
            self._stamp,
            structlog.processors.format_exc_info,
            _render,
        )
        self._wrapper = structlog.make_filtering_bound_logger(least)

    def __call__(self, name: str = "") -> Writer:
        return Writer(self._output, name)

    def install(self) -> None:
        """Configure structlog."""
        structlog.configure(
            processors=list(self._processors),
            wrapper_class=self._wrapper,
            logger_factory=self,
            cache_logger_on_first_use=True,
        )

    def short_cut(self, through: LogWriter) -> ShortCut | None:
        """None where it would pass by somebody else's processor, level or bound values."""
        now = structlog.get_config()
        ours = (*now["processors"],) == self._processors and now["wrapper_class"] is self._wrapper
        if not ours or structlog.contextvars.get_contextvars():
            return None
        return ShortCut(through, self._least, self._output, self._stamp)


@final
class ShortCut:
    """Writes the lines that each job has as structlog would, at a tenth of the price.

    Lines that are handed over together have one timestamp.
    """

    batches = True

    def __init__(self, through: LogWriter, least: int, output: Output, stamp: Stamp) -> None:
        self._through, self._least, self._output, self._stamp = through, least, output, stamp
        self.enabled, self.write = through.enabled, through.write

    def lines(self, lines: Iterable[LogLine]) -> None:
        now, texts = self._stamp.now(), list[str]()
        for level, event, job, took_s, more in lines:
            if LEVELS[level] < self._least:
                continue
            if more is not None:
                self._output.write("".join(texts))
                self._through.lines([(level, event, job, took_s, more)])
                now, texts = self._stamp.now(), []
                continue
            took = "" if took_s is None else f'"took_s":{took_s:.6f},'
            attempt = job.attempt if "retry_count" in job.payload else 1
            texts.append(
                f'{{"jid":{_text(job.jid)},"class":{_text(job.class_)},"queue":{_text(job.queue)},'
                f'"attempt":{attempt},{took}"event":"{event}","level":"{level}",'
                f'"logger":"kiqpy","timestamp":"{now}"}}\n'
            )
        self._output.write("".join(texts))


def configure(level: str, output: Output) -> None:
    """Let structlog write JSON lines from `level` up, past the standard library's logging."""
    Factory(LEVELS[level.lower()], output).install()


def merge_context(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """Adds what is bound, and whose line it is inside a job.

    The job is looked up for a line: to bind four values for each job costs more than two lines.
    """
    line = structlog.contextvars.merge_contextvars(logger, method, line)
    try:
        job = current_job()
    except LookupError:
        return line
    return {**fields_of(job), **line}


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

"""Configures logging of a worker process: structlog and `logging` write in one format."""

from __future__ import annotations

import atexit
import logging
from typing import Any, Final, TextIO, cast

import structlog

from kiqpy.cli import _log_lines
from kiqpy.cli._log_lines import BufferedStream

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def configure(level: str, style: str, stream: TextIO) -> None:
    """Send all lines from `level` up to `stream`; `auto` is `console` on a terminal, else JSON.

    The application is imported later, so its own configuration of structlog or logging wins.
    """
    terminal = stream.isatty()
    if style == "auto":
        style = "console" if terminal else "json"
    output = BufferedStream(stream)
    atexit.register(output.flush)
    handler = logging.StreamHandler(cast("TextIO", output))
    handler.setFormatter(_formatter(style, colors=terminal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if style == "json":
        return _log_lines.configure(level, output)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Any]:
    return [
        _log_lines.merge_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(style: str, *, colors: bool) -> logging.Formatter:
    last: list[Any]
    if style == "console":
        last = [structlog.dev.ConsoleRenderer(colors=colors)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )

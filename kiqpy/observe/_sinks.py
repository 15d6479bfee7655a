"""Writes log lines to structlog if the application has configured it, else to `logging`.

structlog is never imported here: if no module has imported it, it is not configured either.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any, Final, Protocol, final

from kiqpy.job import Job

LEVELS: Final = {
    name: int(getattr(logging, name.upper()))
    for name in ("debug", "info", "warning", "error", "critical")
}


# Level, event, job, duration in seconds, and the fields that only some lines have. A plain tuple,
# because two are made for each job.
LogLine = tuple[str, str, Job, float | None, dict[str, Any] | None]


class LogWriter(Protocol):
    """Writes log lines, except those below the configured level."""

    batches: bool  # whether many lines at once are cheaper, and no single one can fail

    def enabled(self, level: str) -> bool:
        """Whether a line of this level would be written."""
        ...

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Write one line."""
        ...

    def lines(self, lines: Iterable[LogLine]) -> None:
        """Write lines about jobs, in this order."""
        ...


class FastPath(Protocol):
    """Writes job lines exactly as structlog is configured to, without going through structlog."""

    def writer(self, through: LogWriter) -> LogWriter | None:
        """The fast writer; `through` is for lines it does not write itself.

        None if structlog is no longer configured as the fast path expects.
        """
        ...


_fast_paths: list[FastPath] = []


def register_fast_path(fast_path: FastPath) -> None:
    """Use `fast_path` from now on, in place of one that was registered before."""
    _fast_paths[:] = [fast_path]


def log_writer() -> LogWriter:
    """The writer for the logging configuration as it is now.

    `logging.config.dictConfig` disables by default each logger that it does not name. Nobody means
    that of kiqpy's: levels, filters and handlers decide what is written.
    """
    logging.getLogger("kiqpy").disabled = False
    configured = structlog()
    if configured is None:
        return StdlibWriter()
    through = StructlogWriter(configured.get_logger("kiqpy"))
    fast = (path.writer(through) for path in _fast_paths)
    return next((writer for writer in fast if writer is not None), through)


def structlog() -> Any:
    """The package, if the application has configured it; else None."""
    found: Any = sys.modules.get("structlog")
    return found if found is not None and found.is_configured() else None


def fields_of(
    job: Job, took_s: float | None = None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The fields of a line about a job."""
    fields: dict[str, Any] = {
        "jid": job.jid,
        "class": job.class_,
        "queue": job.queue,
        "attempt": job.attempt,
    }
    if took_s is not None:
        fields["took_s"] = round(took_s, 6)
    return fields | more if more else fields


@final
class StructlogWriter:
    """Writes with structlog's logger, through the processors that the application has chosen."""

    batches = False  # a processor may raise

    def __init__(self, log: Any) -> None:
        self._log = log

    def enabled(self, level: str) -> bool:
        for name in ("is_enabled_for", "isEnabledFor"):
            if hasattr(self._log, name):
                return bool(getattr(self._log, name)(LEVELS[level]))
        return True

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        getattr(self._log, level)(event, **fields)

    def lines(self, lines: Iterable[LogLine]) -> None:
        for level, event, job, took_s, more in lines:
            self.write(level, event, fields_of(job, took_s, more))


@final
class StdlibWriter:
    """Writes with the standard library's logger `kiqpy`, subject to its handlers and levels.

    The records are made here: `Logger.info` would spend time on finding the caller, which is
    always this module.
    """

    batches = False  # a filter may raise

    def __init__(self) -> None:
        self._log = logging.getLogger("kiqpy")

    def enabled(self, level: str) -> bool:
        return self._log.isEnabledFor(LEVELS[level])

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if not self.enabled(level):
            return
        stack = fields.get("stack")
        pairs = [f"{name}={value!r}" for name, value in fields.items() if name != "stack"]
        self._put(level, " ".join([f"event={event!r}", *pairs]), stack)

    def lines(self, lines: Iterable[LogLine]) -> None:
        for level, event, job, took_s, more in lines:
            if more is not None:
                self.write(level, event, fields_of(job, took_s, more))
            elif self._log.isEnabledFor(LEVELS[level]):
                took = "" if took_s is None else f" took_s={round(took_s, 6)!r}"
                self._put(
                    level,
                    f"event={event!r} jid={job.jid!r} class={job.class_!r} queue={job.queue!r} "
                    f"attempt={job.attempt}{took}",
                )

    def _put(self, level: str, text: str, stack: str | None = None) -> None:
        log = self._log
        record = log.makeRecord(log.name, LEVELS[level], __file__, 0, text, (), None, "lines")
        record.exc_text = stack  # formatters put it below the line
        log.handle(record)

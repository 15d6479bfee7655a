"""Where log lines go: structlog if the application has configured it, else the standard library.

structlog is not imported here: what nobody has imported, nobody has configured.
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


# Level, event, the job, how long it took, what not every job's line has. A plain tuple: there are
# two of them for each job.
LogLine = tuple[str, str, Job, float | None, dict[str, Any] | None]


class LogWriter(Protocol):
    """Takes lines; drops those below the level that is wanted."""

    batches: bool  # many lines are cheaper than one, and none of them can fail

    def enabled(self, level: str) -> bool:
        """Whether a line of this level would be written."""
        ...

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Take a line of any kind."""
        ...

    def lines(self, lines: Iterable[LogLine]) -> None:
        """Take lines about jobs, in this order."""
        ...


def sink() -> LogWriter:
    """Where lines go as things are configured now."""
    configured = structlog()
    if configured is None:
        return StdlibWriter()
    short_cut = getattr(configured.get_config()["logger_factory"], "short_cut", None)
    through = StructlogWriter(configured.get_logger("kiqpy"))
    return (short_cut and short_cut(through)) or through


def structlog() -> Any:
    """The package, if the application has configured it; else None."""
    found: Any = sys.modules.get("structlog")
    return found if found is not None and found.is_configured() else None


def fields_of(
    job: Job, took_s: float | None = None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a line about a job says."""
    fields: dict[str, Any] = {
        "jid": job.jid, "class": job.class_, "queue": job.queue, "attempt": job.attempt,
    }  # fmt: skip
    if took_s is not None:
        fields["took_s"] = round(took_s, 6)
    return fields | more if more else fields


@final
class StructlogWriter:
    """structlog's logger, with the processors that the application has chosen."""

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
    """The standard library's logger `kiqpy`; its handlers, filters and levels decide.

    Records are made here: whoever looked for the caller would find nobody but us.
    """

    batches = False  # a filter may raise

    def __init__(self) -> None:
        self._log = logging.getLogger("kiqpy")

    def enabled(self, level: str) -> bool:
        return self._log.isEnabledFor(LEVELS[level])

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if self.enabled(level):
            pairs = [f"event={event!r}", *(f"{name}={value!r}" for name, value in fields.items())]
            self._put(level, " ".join(pairs))

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

    def _put(self, level: str, text: str) -> None:
        log = self._log
        log.handle(log.makeRecord(log.name, LEVELS[level], __file__, 0, text, (), None, "lines"))

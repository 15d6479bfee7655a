"""Shows the demo's progress: a line that is redrawn on a terminal, else a line every 3 s."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from typing import Any, Final, final

from kiqpy.app import App
from kiqpy.clock import SystemClock
from kiqpy.event import (
    JobDead,
    JobFailure,
    JobFenced,
    JobStarted,
    JobStopped,
    JobSuccess,
)

_REDRAW_EVERY_S: Final = 0.1
_LINE_EVERY_S: Final = 3.0
_SPEED_OVER_S: Final = 3.0


@final
class FileTally:
    """Counts the files of a run by what happened to their jobs, from the app's events."""

    def __init__(self, run: str, left: set[str], done: int, dead: int) -> None:
        self.left = left  # files neither parsed nor failed
        self.done = done
        self.dead = dead
        self.total = len(left) + done + dead
        self.ended = 0  # parsed or failed in this start
        self.running: set[str] = set()
        self.retrying: set[str] = set()
        self.buried: dict[str, str] = {}  # path: reason; failed, and not saved yet
        self._run = run

    def listen(self, app: App) -> None:
        """Attach to the job events of `app`."""
        app.attach("job.started", self._started)
        app.attach("job.success", self._success)
        app.attach("job.failure", self._failure)
        app.attach("job.dead", self._dead)
        app.attach("job.stopped", self._stopped)
        app.attach("job.fenced", self._fenced)

    def _started(self, event: JobStarted) -> None:
        self.running.add(event.job.jid)
        self.retrying.discard(event.job.jid)

    def _success(self, event: JobSuccess) -> None:
        run, _, path = event.job.args
        if run == self._run and path in self.left:
            self.left.remove(path)
            self.done += 1
            self.ended += 1

    def _failure(self, event: JobFailure) -> None:
        if event.retry_in_s is not None:
            self.retrying.add(event.job.jid)

    def _dead(self, event: JobDead) -> None:
        if event.job is not None:
            self.bury(event.job.args, reason(type(event.error).__name__, str(event.error)))

    def bury(self, args: list[Any], why: str) -> None:
        """The job of this file is in the dead set."""
        run, _, path = args
        if run == self._run and path in self.left and path not in self.buried:
            self.buried[path] = why

    def saved(self, paths: list[str]) -> None:
        """These failed files are saved on disk."""
        for path in paths:
            del self.buried[path]
            self.left.discard(path)
        self.dead += len(paths)
        self.ended += len(paths)

    def compare(self, todo: list[str]) -> None:
        """Count files whose result was saved, but whose job ended without an event."""
        ended = self.left - set(todo)
        self.left -= ended
        self.done += len(ended)
        self.ended += len(ended)

    def _stopped(self, event: JobStopped) -> None:
        self.running.discard(event.job.jid)

    def _fenced(self, event: JobFenced) -> None:
        if event.job is not None:
            self.running.discard(event.job.jid)


def reason(kind: str, text: str) -> str:
    """Why a file failed, as one line."""
    return f"{kind}: {' '.join(text.split())}"[:200]


@final
class ProgressLine:
    """Shows a tally on stderr."""

    def __init__(self, tally: FileTally) -> None:
        self._tally = tally
        self._clock = SystemClock()
        self._out = sys.stderr
        self._bar = self._out.isatty()
        self._next = self._clock.monotonic() + (0 if self._bar else _LINE_EVERY_S)
        self._seen = deque([(self._clock.monotonic(), 0)])

    def show(self) -> None:
        """Draw the line if it is due."""
        now = self._clock.monotonic()
        self._seen.append((now, self._tally.ended))
        while now - self._seen[0][0] > _SPEED_OVER_S:
            self._seen.popleft()
        if now >= self._next:
            self._next = now + (_REDRAW_EVERY_S if self._bar else _LINE_EVERY_S)
            self._write(self._bar_line() if self._bar else f"{self._line()}\n")

    def clear(self) -> None:
        """Clear the line, so that others can print."""
        if self._bar:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _line(self) -> str:
        tally = self._tally
        over = tally.total - len(tally.left)
        return (
            f"{over:,}/{tally.total:,} files  {self._speed():,.0f} jobs/s  "
            f"{len(tally.running)} running  {len(tally.retrying)} retrying  {tally.dead} dead"
        )

    def _bar_line(self) -> str:
        line, columns = self._line(), shutil.get_terminal_size().columns
        width = max(0, min(40, columns - len(line) - 5))
        full = width * (self._tally.total - len(self._tally.left)) // max(1, self._tally.total)
        bar = f"[{'#' * full}{'.' * (width - full)}]  " if width >= 10 else ""
        return f"\r{(bar + line)[: columns - 1]}\x1b[K"

    def _speed(self) -> float:
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        return (now - before) / (last - first) if last > first else 0.0

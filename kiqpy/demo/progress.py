"""What is seen while the demo works: one line that is rewritten, or a line now and then."""

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

_OFTEN_S: Final = 0.1
_SELDOM_S: Final = 3.0
_SPEED_OVER_S: Final = 3.0


@final
class Tally:
    """What becomes of the run's jobs, as the app's events tell it."""

    def __init__(self, run: str, left: set[str], done: int, dead: int) -> None:
        self.left = left  # files whose end is not known yet
        self.done, self.dead = done, dead
        self.total = len(left) + done + dead
        self.ended = 0  # in this start
        self.running: set[str] = set()
        self.retrying: set[str] = set()
        self.buried: dict[str, str] = {}  # to be written down
        self._run = run

    def listen(self, app: App) -> None:
        """Hear of every job of `app`."""
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
        """The job is in the dead set."""
        run, _, path = args
        if run == self._run and path in self.left and path not in self.buried:
            self.buried[path] = why

    def written(self, paths: list[str]) -> None:
        """It is on disk that these are dead."""
        for path in paths:
            del self.buried[path]
            self.left.discard(path)
        self.dead += len(paths)
        self.ended += len(paths)

    def compare(self, todo: list[str]) -> None:
        """A child may have written its result, and its job never told of it."""
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
    """Why a file failed, in one line."""
    return f"{kind}: {' '.join(text.split())}"[:200]


@final
class Progress:
    """Shows a tally on stderr."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._clock, self._out = tally, SystemClock(), sys.stderr
        self._bar = self._out.isatty()
        self._next = self._clock.monotonic() + (0 if self._bar else _SELDOM_S)
        self._seen = deque([(self._clock.monotonic(), 0)])

    def show(self) -> None:
        """Draw it, if it is time."""
        now = self._clock.monotonic()
        self._seen.append((now, self._tally.ended))
        while now - self._seen[0][0] > _SPEED_OVER_S:
            self._seen.popleft()
        if now >= self._next:
            self._next = now + (_OFTEN_S if self._bar else _SELDOM_S)
            self._write(self._bar_line() if self._bar else f"{self._line()}\n")

    def clear(self) -> None:
        """Leave the line to others."""
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

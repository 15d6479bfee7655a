"""Counts bodies: when the first began, when the last ended, and what was used in between.

Standard library only: it runs inside every party's worker process.
"""

from __future__ import annotations

import itertools
import resource
import threading
import time
from pathlib import Path

from benchmarks import wire


def cpu_s() -> float:
    """CPU seconds of this process so far: user and system, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    """Resident memory of this process now (where there is no /proc: its largest so far)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


class Meter:
    """Of `total` bodies; `done` is set when the last one has ended."""

    def __init__(self, url: str, total: int) -> None:
        self._url, self.total = url, total
        self.done = threading.Event()
        self.samples: list[float] = []
        self.most_at_once = 0
        self.now_running = 0
        self._ended = itertools.count(1)  # next() is one step, whatever thread calls it
        self._gate = threading.Lock()
        self._began: tuple[float, float] | None = None
        self._info: dict[str, str] = {}
        self.figures: dict[str, float] = {}

    def enter(self) -> None:
        """First line of a body."""
        if self._began is None:
            self.begin()

    def begin(self) -> None:
        with self._gate:
            if self._began is None:
                self._info = wire.info(self._url)
                self._began = time.perf_counter(), cpu_s()

    def leave(self) -> None:
        """Last line of a body."""
        if next(self._ended) == self.total:
            self.finish()

    def finish(self) -> None:
        """Note what it took since the first body began."""
        now, cpu = time.perf_counter(), cpu_s()
        assert self._began is not None
        began, cpu_began = self._began
        after, n = wire.info(self._url), self.total
        self.figures = {
            "jobs_per_s": n / (now - began),
            "cpu_us_per_job": (cpu - cpu_began) / n * 1e6,
            "redis_us_per_job": (wire.cpu_s(after) - wire.cpu_s(self._info)) / n * 1e6,
            "redis_commands_per_job": (wire.commands(after) - wire.commands(self._info)) / n,
            "rss_mb": rss_mb(),
        }
        if self.most_at_once:
            self.figures["most_at_once"] = self.most_at_once
        self.done.set()

    def arrived(self, sent_at: float) -> None:
        """A stamped job has come; those stamped 0 only warm up and are not counted."""
        if not sent_at:
            self.now_running += 1  # read by the code that waits for the warm-up
            return
        self.samples.append(time.monotonic() - sent_at)
        if len(self.samples) == self.total:
            self.finish()

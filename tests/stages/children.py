"""Workers for the process executor, in a file that a child can import by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from kiqpy import Discard, Snooze, Worker, current_job, worker


@worker(executor="process")
def pid(n: int = 0, *, extra: int = 0) -> tuple[int, int, str]:
    return os.getpid(), n + extra, current_job().jid


@worker(executor="process")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@worker(executor="process")
def raises(message: str) -> None:
    raise ValueError(message)


@worker(executor="process")
def exits() -> None:
    raise SystemExit(3)


@worker(executor="process")
def snoozes(seconds: float) -> None:
    raise Snooze(seconds)


@worker(executor="process", timeout=5)
def hangs(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(3600)


@worker(executor="process")
def unpicklable() -> object:
    return lambda: None


class Hard(Exception):
    """Can't be rebuilt from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("hard")


@worker(executor="process")
def raises_hard() -> None:
    raise Hard(1, 2)


class InClass(Worker, executor="process"):
    def perform(self, n: int) -> object:
        return Discard(f"{self.job.jid} {n}")

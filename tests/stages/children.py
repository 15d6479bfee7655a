"""Workers for the process executor, in a file that a child can import by name."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
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


class Locked(Exception):
    """Can't be pickled: it holds a lock."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@worker(executor="process")
def raises_locked() -> None:
    raise Locked("no pickle of this")


@worker(executor="process")
def lists_generator() -> object:
    return (n for n in range(3))


@worker(executor="process")
def wraps_async() -> object:
    async def inner() -> int:
        await asyncio.sleep(0)
        return 7

    return inner()


@worker(executor="process")
def runs_programs() -> tuple[str, int]:
    """Writes to every descriptor that a program knows of, more than a pipe holds."""
    os.write(1, b"x" * 1000 + b"\n")
    said = subprocess.run(["echo", "hi"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["echo", "to the inherited stdout"], check=True)
    loud = [sys.executable, "-c", "import sys; sys.stderr.write('e' * 1_000_000)"]
    return said, subprocess.run(loud, check=True).returncode


@worker(executor="process")
def is_signalled() -> str:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP):
        os.kill(os.getpid(), number)
    show = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    command = [sys.executable, "-c", show]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@worker(executor="process")
def logs() -> None:
    logging.getLogger("shop.mail").info("sent to %s", "ann", extra={"to": "ann"})
    logging.getLogger("shop.quiet").debug("not to be heard")


@worker(executor="process", timeout=6)
def waits_for(file: str) -> None:
    while not Path(file).exists():
        time.sleep(0.01)

"""What runs in a child process: one job after the other, until its parent has ended."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Awaitable
from logging.handlers import QueueHandler
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple, final

from kiqpy._flow.forks import handles
from kiqpy._rules.remote import ErrorReport, report
from kiqpy.current import enter_job
from kiqpy.job import Job

ORPHANED: Final = 75  # the exit code of a child whose parent has ended
_OWN_FRAMES: Final = 2  # the outermost frames of a traceback, which are this module's


class Request(NamedTuple):
    """A job for a child. The worker is named by its declaration, never by what Redis holds."""

    module: str
    qualname: str
    payload: dict[str, Any]


class Ready(NamedTuple):
    """The child waits for its first job."""


class Returned(NamedTuple):
    """What the job returned. `lost`: why that can't be sent; the job succeeded all the same."""

    result: Any
    lost: str = ""


class Settings(NamedTuple):
    """What a child takes over of its parent."""

    levels: dict[str, int]  # of loggers; "" is the root's
    captures_warnings: bool


Reply = Ready | Returned | ErrorReport | logging.LogRecord


def serve(connection: Connection, settings: Settings) -> None:
    """The child's main function."""
    threading.Thread(target=_end_with_parent, name="kiqpy-parent", daemon=True).start()
    _ignore_signals()
    wire = _Wire(connection)
    _send_log_records(wire, settings)
    wire.send(Ready())
    while True:
        try:
            request: Request = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):  # the parent has no more jobs
            return
        wire.send(_answer(request))


def _end_with_parent() -> None:
    """A job whose parent was killed is run again elsewhere, so it must not go on here."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(ORPHANED)


def _ignore_signals() -> None:
    """Ctrl-C and systemd signal the whole group; what it means for a job, the parent decides.

    Handlers that do nothing, not SIG_IGN, which the programs that a job starts would inherit.
    """
    for name in ("SIGINT", "SIGTERM", "SIGTSTP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, _nothing)
            handles(number)


def _nothing(_number: int, _frame: object) -> None:
    """A signal handler."""


@final
class _Wire:
    """The way to the parent, for all threads of the child. No file descriptor that jobs know."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        """Send it whole."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # a job may have closed or replaced it
                continue
        packed = _packed(reply)
        with self._lock:
            self._connection.send_bytes(packed)

    def put_nowait(self, record: logging.LogRecord) -> None:
        """What `QueueHandler` calls."""
        packed = pickle.dumps(record)
        with self._lock:
            self._connection.send_bytes(packed)


def _packed(reply: Reply) -> bytes:
    try:
        return pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # whatever user code raises while it is pickled
        return pickle.dumps(Returned(None, lost=f"{type(error).__name__}: {error}"))


def _send_log_records(wire: _Wire, settings: Settings) -> None:
    """Hand log records to the parent, unless the child's own code has configured logging."""
    logging.captureWarnings(settings.captures_warnings)
    if logging.getLogger().handlers:
        return
    logging.getLogger().addHandler(QueueHandler(wire))  # type: ignore[arg-type]
    for name, level in settings.levels.items():
        logging.getLogger(name).setLevel(level)


def _answer(request: Request) -> Returned | ErrorReport:
    try:
        return Returned(_call(request))
    except BaseException as error:  # SystemExit too: a job must not end the child
        return report(error, skip=_OWN_FRAMES)


def _call(request: Request) -> object:
    found: Any = importlib.import_module(request.module)
    for part in request.qualname.split("."):
        found = getattr(found, part)
    job = Job.from_payload(request.payload)
    enter_job(job)
    result: object = found.spec.run(job)
    if inspect.isawaitable(result):  # a plain function may wrap an `async def`
        result = asyncio.run(_awaited(result))
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"the job returned a generator, {result!r}, whose body nobody runs")
    return result


async def _awaited(result: Awaitable[object]) -> object:
    return await result

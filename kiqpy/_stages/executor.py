"""Where `perform` runs: in the event loop, in a thread, or in a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, final

import anyio

from kiqpy._flow.tasks import whole
from kiqpy._spec import Spec
from kiqpy.current import enter_job
from kiqpy.job import Job
from kiqpy.middleware import Next


@final
class Executor:
    """Calls workers; so many at a time in threads, so many in processes."""

    def __init__(self, threads: int, processes: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="kiqpy-job")
        self._processes = anyio.CapacityLimiter(processes)
        self._awaited: set[asyncio.Future[Any]] = set()

    def close(self) -> None:
        """Let idle threads end now, and busy ones when their job has; nothing awaits those jobs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for run in self._awaited:
            run.cancel()

    def runs(self, spec: Spec) -> Next:
        """What runs a job of this worker; asked for once, so that a job pays for no choice."""
        if spec.executor == "async":
            return spec.run
        return partial(self._process if spec.executor == "process" else self._thread, spec)

    async def _process(self, spec: Spec, job: Job) -> Any:
        """Call the worker in a child. Cancel: kills the child, which has no other job."""
        from anyio import to_process  # expensive to import, and few workers need it

        call = partial(_in_child, *_address(spec), job.payload, *spec.arguments(job.args))
        process = to_process.run_sync(call, cancellable=True, limiter=self._processes)
        return _returned(await process)

    async def _thread(self, spec: Spec, job: Job) -> Any:
        """Call the worker in a thread.

        Cancel: a job that waits for a thread is not run. One that runs can't be stopped: its run
        ends when it does, so its slot stays taken.
        """
        begun = self._threads.submit(copy_context().run, _ended, partial(spec.run, job))
        run = asyncio.wrap_future(begun)
        self._awaited.add(run)
        try:
            return _returned(await whole(run, on_cancel=begun.cancel))
        finally:
            self._awaited.discard(run)


def _ended(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Runs in the thread. Passes on as a value what is raised: no future takes StopIteration."""
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _contained(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Runs in the child, which a job must not end."""
    try:
        return call(), None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _returned(contained: tuple[Any, BaseException | None]) -> Any:
    result, error = contained
    if error is not None:
        raise error
    return result


def _address(spec: Spec) -> tuple[str, str]:
    """Where a child process finds the worker; from the declaration, never from Redis."""
    call = spec.owner or spec.call
    return call.__module__, call.__qualname__


def _in_child(
    module: str, name: str, payload: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Runs in the child: the same worker, found where it was declared.

    Ctrl-C reaches the whole foreground group; what it means for a job, the parent decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    job = Job.from_payload(payload)
    enter_job(job)
    return _contained(partial(found.spec.target(job), *args, **kwargs))

"""Where `perform` runs: in the event loop, in a thread, or in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, final

from kiqpy._reporting.bus import Bus
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.exhaustion import Watched
from kiqpy._stages.gates import Slots
from kiqpy.clock import Clock
from kiqpy.errors import BrokenChild
from kiqpy.job import Job
from kiqpy.middleware import Next

if TYPE_CHECKING:
    from kiqpy._stages.children import Child, Children

_reserved: ContextVar[Child] = ContextVar("kiqpy_child")  # for the job of this context
Reserve = Callable[[Run], Awaitable[None] | None]
_Ended = tuple[Any, BaseException | None]


@final
class Executor:
    """Calls workers in the event loop, in threads and in processes, with a bound for each kind.

    A run is given its thread or its child before its time counts, and holds it until the job's
    code has ended.
    """

    def __init__(self, threads: int, processes: int, clock: Clock, bus: Bus) -> None:
        self.threads = Slots(threads)
        self.processes = Slots(processes)
        self._reserve_thread = Watched(self.threads, "thread", clock, bus)
        self._reserve_slot = Watched(self.processes, "process", clock, bus)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kiqpy-job")
        self._askers = ThreadPoolExecutor(processes, thread_name_prefix="kiqpy-child")
        self._children: Children | None = None
        self._awaited: set[asyncio.Future[Any]] = set()

    def close(self) -> None:
        """Kill children, end idle threads now, and busy ones when their job has ended.

        Nothing awaits those jobs any more.
        """
        if self._children is not None:
            self._children.close()
        for pool in (self._pool, self._askers):
            pool.shutdown(wait=False, cancel_futures=True)
        for run in self._awaited:
            run.cancel()

    # -- what a worker's plan is made of; asked for once, so that a job pays for no choice

    def reserves(self, spec: Spec) -> Reserve | None:
        """What gets a run its thread or its child, and may wait; None: it needs neither.

        A run that waits for it keeps its slot of the queue, so that this process claims no more
        jobs than it would without.
        """
        if spec.executor == "async":
            return None
        return self._reserve_child if spec.executor == "process" else self._reserve_thread

    def runs(self, spec: Spec) -> Next:
        """The function that calls this worker for a job."""
        if spec.executor == "async":
            return spec.run
        return partial(self._process if spec.executor == "process" else self._thread, spec)

    # -- threads

    async def _thread(self, spec: Spec, job: Job) -> Any:
        """Call the worker in a thread.

        Cancel: a thread can't be stopped. The call ends when its job does, with what that came to.
        """
        begun = self._pool.submit(copy_context().run, _ended, partial(spec.run, job))
        return await self._outcome(begun, on_cancel=begun.cancel)

    # -- child processes

    async def _reserve_child(self, run: Run) -> None:
        """A slot, then a child that is ready."""
        if (turn := self._reserve_slot(run)) is not None:
            await turn
        children = self._ours()
        taken = self._askers.submit(children.take)
        try:
            child = await asyncio.shield(asyncio.wrap_future(taken))
        except asyncio.CancelledError:
            taken.add_done_callback(partial(_return_unused, children))
            raise
        run.hold(partial(children.give_back, child))
        _reserved.set(child)

    def _ours(self) -> Children:
        from kiqpy._stages.children import Children  # expensive, and few workers need it

        if self._children is None:
            self._children = Children()
        return self._children

    async def _process(self, spec: Spec, job: Job) -> Any:
        """Call the worker in a child. Cancel: kills the child, which has no other job."""
        from kiqpy._stages._child import Request

        child = _reserved.get()
        ask = partial(child.ask, Request(*_address(spec), job.payload))
        begun = self._askers.submit(copy_context().run, _ended, ask)
        try:
            return await self._outcome(begun, on_cancel=child.kill)
        except BrokenChild:
            if child.killed:  # by us: it is no failure of the job's
                raise asyncio.CancelledError from None
            raise

    # -- both

    async def _outcome(self, begun: Future[_Ended], on_cancel: Callable[[], object]) -> Any:
        """What the call comes to, also if it was cancelled meanwhile: then it ended all the same.

        Cancel: calls `on_cancel`, and still waits. Raises CancelledError if the call never began.
        """
        run = asyncio.wrap_future(begun)
        self._awaited.add(run)
        try:
            return _returned(await _to_the_end(run, on_cancel))
        finally:
            self._awaited.discard(run)


async def _to_the_end(run: asyncio.Future[_Ended], on_cancel: Callable[[], object]) -> _Ended:
    while True:
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            if run.cancelled():
                raise
            if not run.done():
                on_cancel()


def _return_unused(children: Children, taken: Future[Child]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        children.give_back(taken.result())


def _ended(call: Callable[[], Any]) -> _Ended:
    """Runs in the thread. Passes on as a value what is raised: no future takes StopIteration."""
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _returned(ended: _Ended) -> Any:
    result, error = ended
    if error is not None:
        raise error
    return result


def _address(spec: Spec) -> tuple[str, str]:
    """Where a child process finds the worker; from the declaration, never from Redis."""
    call = spec.owner or spec.call
    return call.__module__, call.__qualname__

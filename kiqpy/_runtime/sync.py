"""Enqueueing from code without an event loop: a script's app runs in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, final

from kiqpy._flow.forks import forget_in_child
from kiqpy._flow.thread import LoopThread, running_loop_or_none
from kiqpy._runtime.lifecycle import Lifecycle
from kiqpy.errors import LifecycleError

T = TypeVar("T")
P = ParamSpec("P")


@final
class SyncPortal:
    """Runs coroutines in the app's event loop, for other threads, which wait.

    An app that is not started is started as a client, in a loop and a thread of its own; `close`
    ends both. Several threads may call at the same time.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._held: _ScriptLoop | None = None
        forget_in_child(self._forget)

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        """What the coroutine returns. LifecycleError in a thread where an event loop runs.

        TimeoutError after `timeout` seconds; the coroutine goes on.
        """
        if running_loop_or_none() is not None:
            raise LifecycleError(
                "enqueue_sync would block the event loop of this thread: await enqueue(...)"
                + ("" if self._lifecycle.live else " within `async with app.client_only():`")
            )
        if not self._runs():
            self._start()
        return self._lifecycle.running().enqueuer.thread.run(call(), timeout)

    def _runs(self) -> bool:
        home = self._lifecycle.home
        return self._lifecycle.live is not None and not (home and home.is_closed())

    def _start(self) -> None:
        with self._lock:
            if self._runs():  # another thread was faster
                return
            held = self._held or self._open()
            try:
                held.thread.run(self._lifecycle.start(False))
            except BaseException:
                self._held = None
                held.close()
                raise

    def _open(self) -> _ScriptLoop:
        self._held = held = _ScriptLoop()
        atexit.register(self.close)  # a script that does not call it loses nothing, and ends
        return held

    def close(self) -> None:
        """Flush and stop what was started here. Idempotent."""
        with self._lock:
            held, self._held = self._held, None
            atexit.unregister(self.close)
            if held is not None:
                try:
                    held.thread.run(self._lifecycle.stop())
                finally:
                    held.close()

    def _forget(self) -> None:
        """In a forked child: the loop and its thread are the parent's."""
        self._lock = threading.Lock()
        self._held = None


@final
class _ScriptLoop:
    """An event loop in a thread that does not keep the interpreter alive.

    It lives until `atexit`, when the interpreter has joined the program's own threads: they may
    have enqueued until then.
    """

    def __init__(self) -> None:
        begun = Future[LoopThread]()
        self._end = asyncio.Event()
        self._turning = threading.Thread(
            target=self._turn, args=(begun,), name="kiqpy-client", daemon=True
        )
        self._turning.start()
        self.thread = begun.result()

    def _turn(self, begun: Future[LoopThread]) -> None:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(_ThreadForEach())
            runner.run(self._until_closed(begun))

    async def _until_closed(self, begun: Future[LoopThread]) -> None:
        begun.set_result(LoopThread())
        await self._end.wait()

    def close(self) -> None:
        """End the loop and its thread."""
        self.thread.run(self._close())
        self._turning.join()

    async def _close(self) -> None:
        self._end.set()


class _ThreadForEach(ThreadPoolExecutor):
    """For the loop's few blocking calls: the interpreter's own pools are shut before `atexit`."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        called = Future[T]()

        def call() -> None:
            if not called.set_running_or_notify_cancel():
                return
            try:
                called.set_result(fn(*args, **kwargs))
            except BaseException as error:
                called.set_exception(error)

        threading.Thread(target=call, name="kiqpy-call", daemon=True).start()
        return called

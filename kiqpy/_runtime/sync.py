"""Enqueueing from code without an event loop: a script's app runs in a thread of its own."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final

from kiqpy._runtime.lifecycle import Lifecycle
from kiqpy.errors import LifecycleError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")


class _Portal(NamedTuple):
    """An event loop in a thread; leaving the context ends both."""

    portal: BlockingPortal
    context: AbstractContextManager[BlockingPortal]

    def close(self) -> None:
        self.context.__exit__(None, None, None)


@final
class SyncPortal:
    """Runs coroutines in the app's event loop, for other threads, which wait.

    An app that is not started is started as a client, in a portal's thread; `close` ends both.
    Several threads may call at the same time.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._held: _Portal | None = None

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        """What the coroutine returns. LifecycleError in the loop's own thread.

        TimeoutError after `timeout` seconds; the coroutine goes on.
        """
        if self._lifecycle.live is None:
            self._start()
        thread = self._lifecycle.running().enqueuer.thread
        if thread.is_current():
            raise LifecycleError("enqueue_sync would block the event loop: await enqueue(...)")
        return thread.run(call(), timeout)

    def _start(self) -> None:
        with self._lock:
            if self._lifecycle.engine is not None:  # another thread was faster
                return
            held = self._held or self._open()
            try:
                held.portal.call(self._lifecycle.start, False)
            except BaseException:
                self._held = None
                held.close()
                raise

    def _open(self) -> _Portal:
        from anyio.from_thread import start_blocking_portal  # expensive; only scripts need it

        context = start_blocking_portal()
        self._held = held = _Portal(context.__enter__(), context)
        atexit.register(self.close)  # a script that does not call it loses nothing, and ends
        return held

    def close(self) -> None:
        """Flush and stop what was started here. Idempotent."""
        with self._lock:
            held, self._held = self._held, None
            atexit.unregister(self.close)
            if held is not None:
                try:
                    held.portal.call(self._lifecycle.stop)
                finally:
                    held.close()

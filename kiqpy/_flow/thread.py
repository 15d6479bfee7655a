"""An event loop as the threads beside it see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class LoopThread:
    """The running event loop, and the thread that runs it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def is_current(self) -> bool:
        """Whether the caller is in that thread, and so must not wait for the loop."""
        return threading.get_ident() == self._thread

    def run(self, run: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the loop; called from another thread, which waits.

        It sees the caller's context variables. TimeoutError after `timeout` seconds: it goes on.
        """
        return asyncio.run_coroutine_threadsafe(run, self._loop).result(timeout)

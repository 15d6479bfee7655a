"""An event loop as other threads, and other event loops, see it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from math import inf
from time import monotonic  # not Clock: threads wait in real time
from typing import Any, Final, Generic, Protocol, TypeVar, final

from kiqpy.errors import LifecycleError

T = TypeVar("T")
_LOOK_S: Final = 1.0  # who waits for another loop looks so often whether it still runs


def running_loop() -> asyncio.AbstractEventLoop:
    """asyncio's loop that runs here; LifecycleError where there is none, or another library's."""
    loop = running_loop_or_none()
    if loop is None:
        trio = "trio" in sys.modules
        raise LifecycleError(
            "kiqpy runs in asyncio's event loop, and here is none"
            f"{' (trio has loops of its own)' if trio else ''}: start the program with asyncio.run,"
            " or call enqueue_sync in a thread"
        )
    return loop


def running_loop_or_none() -> asyncio.AbstractEventLoop | None:
    """asyncio's loop that runs in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@final
class LoopThread:
    """The loop that runs where this is made; lets code of other loops and threads run in it."""

    def __init__(self) -> None:
        self._loop = running_loop()
        self._thread = threading.get_ident()
        self._pid = os.getpid()

    def is_here(self) -> bool:
        """Whether the caller is in the loop's thread, and may touch what belongs to the loop."""
        return threading.get_ident() == self._thread

    def is_current(self) -> bool:
        """Whether the caller runs in that loop, and so must not wait for it."""
        return running_loop_or_none() is self._loop

    def is_closed(self) -> bool:
        """Whether nothing can run in it ever again."""
        return self._loop.is_closed()

    def run(self, run: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the loop; called from another thread, which waits.

        It sees the caller's context variables. TimeoutError after `timeout` seconds: it goes on.
        LifecycleError if the loop does not run.
        """
        begun = self._begin(run)
        until = inf if timeout is None else monotonic() + timeout
        while not begun.done() and (left_s := until - monotonic()) > 0:
            if not wait((begun,), min(left_s, _LOOK_S)).done:
                self._check()
        return begun.result(0)

    async def hand_over(self, run: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs in the loop; called from another one.

        It sees the caller's context variables. LifecycleError if the loop does not run. Cancel:
        cancels it there, and waits for its end.
        """
        visit = _Visit(run)
        try:
            here = running_loop()  # first: nothing begins if nobody could wait for it
            ended = asyncio.wrap_future(self._begin(visit.run()), loop=here)
        except BaseException:
            run.close()
            raise
        while not ended.done():
            try:
                await asyncio.wait({ended}, timeout=_LOOK_S)
            except asyncio.CancelledError:
                with suppress(RuntimeError):  # it was closed, which is found out below
                    self._loop.call_soon_threadsafe(visit.cancel)
            if not ended.done():
                self._check()
        return ended.result()

    def _begin(self, run: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            self._check()
            return asyncio.run_coroutine_threadsafe(run, self._loop)
        except BaseException:
            run.close()
            raise

    def _check(self) -> None:
        """LifecycleError if nothing runs in the loop now."""
        if self._pid != os.getpid():
            raise LifecycleError(
                "this process was forked from one that runs the app: start an app here"
            )
        if self._loop.is_closed():
            raise LifecycleError("the app's event loop was closed without a stop: start it again")
        if not self._loop.is_running():
            raise LifecycleError(
                "the app was started in another event loop, which does not run now: start and stop "
                "an app in the loop that uses it"
            )


@final
class _Visit(Generic[T]):
    """A coroutine that runs in a loop for another; its task is known once it has begun."""

    def __init__(self, run: Coroutine[Any, Any, T]) -> None:
        self._run = run
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def run(self) -> T:
        self._task = asyncio.current_task()
        if self._cancelled:
            self.cancel()
        return await self._run

    def cancel(self) -> None:
        """Called in the loop in which it runs."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()


class _Housed(Protocol):
    @property
    def _home(self) -> LoopThread | None: ...


C = TypeVar("C", bound=_Housed)
_Method = Callable[..., Coroutine[Any, Any, Any]]


def from_any_loop(*, but: tuple[str, ...] = ()) -> Callable[[type[C]], type[C]]:
    """Let the public coroutine methods of a class be awaited in any event loop.

    They run in the loop of the object's `_home`; None: wherever they are awaited. `but` names
    those that care for that themselves.
    """

    def change(cls: type[C]) -> type[C]:
        for name, method in list(vars(cls).items()):
            public = not name.startswith("_") or name == "__call__"
            if public and name not in but and iscoroutinefunction(method):
                setattr(cls, name, _at_home(method))
        return cls

    return change


def _at_home(method: _Method) -> _Method:
    @wraps(method)
    async def called(self: _Housed, *args: Any, **options: Any) -> Any:
        home = self._home  # pyright: ignore[reportPrivateUsage]
        if home is None or home.is_current():
            return await method(self, *args, **options)
        return await home.hand_over(method(self, *args, **options))

    return called

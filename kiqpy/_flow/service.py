"""What starts and stops: one contract for all of it, and the one place that keeps its rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, final

from kiqpy._flow.tasks import whole
from kiqpy.errors import LifecycleError

T = TypeVar("T")

_NOT_NOW: Final = {
    "starting": "is started already; stop it first",
    "started": "is started already; stop it first",
    "stopping": "is still stopping: await its stop() first",
    "ended": "ran once and does not start again: make another",
}


class Service(Protocol):
    """Something that runs from `start` to `stop`: tasks, threads, connections, files, a lease.

    What holds for every service:

    - A start that raises, or is cancelled, first undoes what it has begun: nothing of it is left.
    - A second start raises LifecycleError, and the first goes on. So does a start during a stop.
    - A stop before the start, and a second stop, change nothing. Stops at the same time all return
      when the service has ended. A stop during the start raises LifecycleError: cancel the start.
    - A stop that is cancelled comes to its end all the same; then CancelledError is raised.
    - After a stop the service may be started again, or says by a LifecycleError that it may not.
    """

    async def start(self) -> None:
        """Return when it runs."""
        ...

    async def stop(self) -> object:
        """Return when nothing of it runs any more."""
        ...


@final
class StartStop(Generic[T]):
    """Keeps the rules of `Service` for one service, which says how it begins and how it ends.

    `name` is the subject of the messages. `idle` is what `stop` returns when nothing runs. A
    service that runs `once` can't be started after its stop.
    """

    def __init__(self, name: str, idle: T, *, once: bool = False) -> None:
        self._name = name
        self._idle = idle
        self._once = once
        self._state: Literal["new", "starting", "started", "stopping", "ended"] = "new"
        self._ending: asyncio.Task[T] | None = None

    async def start(
        self,
        begin: Callable[[], Coroutine[Any, Any, object]],
        end: Callable[[], Coroutine[Any, Any, object]],
    ) -> None:
        """Await `begin()`; if it raises or is cancelled, `end()` undoes what it has done."""
        if self._state != "new":
            raise LifecycleError(f"{self._name} {_NOT_NOW[self._state]}")
        self._state = "starting"
        try:
            await begin()
        except BaseException:
            await whole(self._undo(end))
            raise
        self._state = "started"

    async def _undo(self, end: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await end()
        finally:
            self._state = "ended" if self._once else "new"

    async def stop(
        self,
        end: Callable[[], Coroutine[Any, Any, T]],
        on_cancel: Callable[[], object] | None = None,
    ) -> T:
        """What `end()` returns, awaited once to its end, however many call and are cancelled.

        `on_cancel` is called at each cancellation; it may let `end` take a shorter way.
        """
        if self._state == "starting":
            raise LifecycleError(f"{self._name} is still starting: cancel its start() instead")
        if self._state == "started":
            self._state = "stopping"
            self._ending = asyncio.ensure_future(self._end(end))
        if self._ending is None or self._state != "stopping":
            return self._idle
        return await whole(self._ending, on_cancel)

    async def _end(self, end: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await end()
        finally:
            self._state = "ended" if self._once else "new"
            self._ending = None

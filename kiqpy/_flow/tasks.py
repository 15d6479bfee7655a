"""Tasks: run together, held until they end, awaited to their end, awaited for a while.

What belongs to the app, not to the code that happens to start it (a request, a job), runs in a
context of its own: see `own_context`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar, cast, final

from kiqpy.clock import Clock

T = TypeVar("T")


_KEPT: Final[list[ContextVar[Any]]] = []
_UNSET: Final = object()


def keep_in_contexts(variable: ContextVar[Any]) -> None:
    """Let the variable's value pass into each `own_context`."""
    _KEPT.append(variable)


def own_context() -> Context:
    """An empty context, but for what kiqpy itself keeps in it: no request's id, no span, no job."""
    context = Context()
    for variable in _KEPT:
        if (value := variable.get(_UNSET)) is not _UNSET:
            context.run(variable.set, value)
    return context


async def together(runs: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run all to their end; if one raises, the others are cancelled and its error is raised."""
    # asyncio's group, not anyio's: there a cancelled stage could not await its own cleaning up.
    try:
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(run())
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group.exceptions[0]
    nested = isinstance(error, BaseExceptionGroup)
    return _first(cast("BaseExceptionGroup[Any]", error)) if nested else error


@final
class TaskSet:
    """Tasks that run beside their starter, in their own context.

    They are held here, for the event loop itself would drop them.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, run: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Run it in a task, which is dropped from the set when it has ended."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(run, name=name, context=own_context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        """Those that have not ended, as of now."""
        return iter(list(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)


async def whole(step: Awaitable[T], on_cancel: Callable[[], object] | None = None) -> T:
    """Await a short step that owns something to its end, and only then let a cancellation in.

    A second cancellation does not interrupt the step either. The step must not wait for a peer, or
    `on_cancel` must make it end soon.
    """
    task = asyncio.ensure_future(step)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
            if on_cancel is not None:
                on_cancel()
        except BaseException:
            break
    if cancelled:
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it as never retrieved
        raise asyncio.CancelledError
    return task.result()


async def ended(
    tasks: set[asyncio.Task[Any]],
    within_s: float,
    clock: Clock,
    late: asyncio.Event | None = None,
) -> bool:
    """Wait for all tasks, for `within_s` at most or until `late` is set; whether all have ended.

    Cancels none of them, and raises nothing of theirs.
    """
    late = late or asyncio.Event()
    timer = clock.call_later(within_s, late.set)
    waiting = asyncio.ensure_future(late.wait())
    try:
        while (open_ := {task for task in tasks if not task.done()}) and not late.is_set():
            await asyncio.wait({*open_, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return not open_
    finally:
        timer.cancel()
        waiting.cancel()
        await asyncio.wait({waiting})

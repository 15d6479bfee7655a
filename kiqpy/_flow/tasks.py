"""Starting in order, stopping in reverse, and what happens to those who do not stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from kiqpy.clock import Clock

T = TypeVar("T")


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


async def whole(step: Awaitable[T], on_cancel: Callable[[], object] | None = None) -> T:
    """Await a short step that owns something to its end, and only then let a cancellation in.

    Twice cancelled it still ends first. The step must not wait for a peer, or `on_cancel` must
    make it end soon.
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
            task.exception()  # nobody is left to hear it
        raise asyncio.CancelledError
    return task.result()


async def ended(
    tasks: set[asyncio.Task[Any]],
    within_s: float,
    clock: Clock,
    late: asyncio.Event | None = None,
) -> bool:
    """Whether all tasks end within that time; waits for them, cancels nothing, never raises.

    Setting `late` ends the wait sooner.
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

"""Runs the service's main task to its end, whatever its jobs' tasks raise."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def run_to_the_end(
    loop: asyncio.AbstractEventLoop,
    main: Coroutine[Any, Any, int],
    on_exit: Callable[[BaseException], object],
) -> int:
    """What `main` returns or raises; `on_exit(error)` is called for an exit that is not its own.

    asyncio ends the loop at once if any task or callback raises SystemExit or KeyboardInterrupt.
    Here the loop goes on, and who awaits that task gets the error. Ctrl-c raises KeyboardInterrupt
    only where no handler takes the signal: then it ends the loop as usual.
    """
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return task.result()
            if isinstance(error, KeyboardInterrupt) and _ctrl_c_raises():
                raise
            on_exit(error)


def _ctrl_c_raises() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler

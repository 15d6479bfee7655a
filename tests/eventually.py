"""Waits for a condition, for a bounded time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], what: str, within: float = 20.0) -> None:
    """Return as soon as the condition (awaited, if it can be) holds; fail if it never does."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"waited {within:g} s in vain: {what}"
        await asyncio.sleep(0.005)

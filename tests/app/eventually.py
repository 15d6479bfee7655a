"""Waiting for what must come, for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], what: str, within: float = 10.0) -> None:
    """Return as soon as the condition holds; fail, naming what was awaited, if it never does."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within:g} s in vain: {what}"
        await asyncio.sleep(0.005)

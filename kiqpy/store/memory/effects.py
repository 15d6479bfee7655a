"""Effects in memory: one function for each, with the name of its Lua function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kiqpy.outcome import Effects, ExtendLock, FreeLock
from kiqpy.store.memory.server import MemoryServer


def free_lock(server: MemoryServer, effect: FreeLock) -> None:
    if server.owns(effect.lock, effect.jid):
        del server.locks[effect.lock.token]


def extend_lock(server: MemoryServer, effect: ExtendLock) -> None:
    server.extend(effect.lock, effect.jid, effect.in_s)


# A further effect adds its function here under its `op`, before any store carries it out.
EFFECTS: Final[dict[str, Callable[[MemoryServer, Any], None]]] = {
    "free_lock": free_lock,
    "extend_lock": extend_lock,
}


def run_effects(server: MemoryServer, effects: Effects) -> None:
    """Carry out the effects of a job that is settled, rescued or moved."""
    for effect in effects:
        EFFECTS[effect.op](server, effect)

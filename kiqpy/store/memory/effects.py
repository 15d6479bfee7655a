"""Effects in memory: one function for each, with the name of its Lua function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kiqpy.outcome import Effects, ExtendLock, FreeLock, TakeLock
from kiqpy.store.memory.lanes import block_lane, enter_lane, halt_lane, next_in_lane
from kiqpy.store.memory.server import MemoryServer


def free_lock(server: MemoryServer, effect: FreeLock) -> None:
    if server.owns(effect.lock, effect.jid):
        del server.locks[effect.lock.token]


def extend_lock(server: MemoryServer, effect: ExtendLock) -> None:
    server.extend(effect.lock, effect.jid, effect.in_s)


def take_lock(server: MemoryServer, effect: TakeLock) -> None:
    lock, jid = effect
    if not lock.owned or not jid or lock.ttl_s < 0.001:
        return
    if server.take(lock, jid, due_at=None) is not None:
        server.extend(lock, jid, 0.0)


# A further effect adds its function here under its `op`, before any store carries it out.
EFFECTS: Final[dict[str, Callable[[MemoryServer, Any], None]]] = {
    "free_lock": free_lock,
    "extend_lock": extend_lock,
    "take_lock": take_lock,
    "enter_lane": enter_lane,
    "next_in_lane": next_in_lane,
    "halt_lane": halt_lane,
    "block_lane": block_lane,
}


def run_effects(server: MemoryServer, effects: Effects) -> None:
    """Carry out the effects of a job that is settled, rescued or moved."""
    for effect in effects:
        EFFECTS[effect.op](server, effect)

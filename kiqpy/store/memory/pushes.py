"""How a job is stored in memory, as `lua/push.lua` does on Redis."""

from __future__ import annotations

from kiqpy.store import OutgoingJob, Pushed
from kiqpy.store.memory.effects import run_effects
from kiqpy.store.memory.server import MemoryServer


def store_job(server: MemoryServer, item: OutgoingJob, age_s: float) -> Pushed:
    """Store one job, unless another holds its lock. `age_s`: since when its delay runs."""
    due_at = item.at_s
    if due_at is None and item.in_s is not None:
        due_at = server.clock.now() + item.in_s - age_s
    if item.lock is not None:
        holder = server.take(item.lock, item.jid, due_at)
        if holder is not None:
            return Pushed("duplicate", holder)
    if due_at is None:
        server.queues[item.queue].appendleft(item.payload)
        run_effects(server, item.effects())
        return Pushed("queued")
    server.places["schedule"].add(item.payload, due_at)
    return Pushed("scheduled")

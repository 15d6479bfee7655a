"""Puts jobs of dead processes back at the heads of their queues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.clock import Clock
from kiqpy.event import Event, JobRecovered
from kiqpy.store import Maintenance

_PRUNE_S: Final = 60.0  # a hash in the list of processes lasts as long after the last heartbeat


@final
class Rescuer(Loop):
    """Looks for dead processes; more often while there is one that may be dead.

    A suspicion needs three sightings over `suspicion_s` and no gap longer than that, so that an
    outage of the store, in which no process could renew its lease, takes no jobs away. Once a
    minute it takes those off the list of processes that have neither a lease nor a hash.
    """

    name = "rescue"

    def __init__(
        self,
        store: Maintenance,
        prune: Callable[[], Awaitable[int]],
        suspicion_s: float,
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._prune = prune
        self._clock = clock
        self._emit = emit
        self._pruned_at = float("-inf")
        self._sweep_s = suspicion_s * 0.8
        self._suspect_s = suspicion_s * 0.2  # while a process may be dead

    async def tick(self) -> float:
        sweep = await self._store.rescue()
        for job in sweep.rescued:
            self._emit(JobRecovered(job.jid, job.queue, job.recoveries, job.poison))
        if self._clock.monotonic() - self._pruned_at >= _PRUNE_S:
            await self._prune()
            self._pruned_at = self._clock.monotonic()
        return self._suspect_s if sweep.suspects else self._sweep_s

"""Puts jobs of dead processes back at the heads of their queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from kiqpy._flow.loop import Loop
from kiqpy.event import Event, JobRecovered
from kiqpy.store import Maintenance


@final
class Rescuer(Loop):
    """Looks for dead processes; more often while there is one that may be dead.

    A suspicion needs three sightings over `suspicion_s` and no gap longer than that, so that an
    outage of the store, in which no process could renew its lease, takes no jobs away.
    """

    name = "rescue"

    def __init__(
        self, store: Maintenance, suspicion_s: float, emit: Callable[[Event], None]
    ) -> None:
        self._store = store
        self._emit = emit
        self._sweep_s = suspicion_s * 0.8
        self._suspect_s = suspicion_s * 0.2  # while a process may be dead

    async def tick(self) -> float:
        sweep = await self._store.rescue()
        for job in sweep.rescued:
            self._emit(JobRecovered(job.jid, job.queue, job.recoveries, job.poison))
        return self._suspect_s if sweep.suspects else self._sweep_s

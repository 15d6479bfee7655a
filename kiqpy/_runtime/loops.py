"""The loops of a started app: built, run, and stopped together."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from typing import final

from kiqpy._flow.loop import Loop, LoopRunner
from kiqpy._intake.admission import Admission
from kiqpy._loops.cron import Cron
from kiqpy._loops.lead import Leader
from kiqpy._loops.promote import SPACING_S, Promoter
from kiqpy._loops.rescue import Rescuer
from kiqpy._reporting.bus import Bus
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.event import LoopFailed
from kiqpy.job import Job
from kiqpy.store import OutgoingJob, Store


@final
class LoopSet:
    """Everything that happens by time in one process."""

    def __init__(
        self, config: Config, store: Store, bus: Bus, clock: Clock, admission: Admission
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._config = config
        self._store = store
        self._bus = bus
        self._clock = clock
        self._admission = admission
        self._runners: list[LoopRunner] = []
        self._cron: Cron | None = None

    def _loops(self) -> Iterator[Loop]:
        yield Rescuer(
            store=self._store,
            prune=self._store.census.prune,
            suspicion_s=self._config.suspicion,
            clock=self._clock,
            emit=self._bus.emit,
        )
        if self._config.schedulers:
            yield Promoter(self._store, self._config.poll_interval)
        if self._config.periodics:
            yield from self._periodics()

    def _periodics(self) -> Iterator[Loop]:
        """Who leads is decided among the processes that declare the same periodics."""
        entries = self._config.periodics
        names = "\n".join(sorted(entry.name for entry in entries))
        group = hashlib.sha256(names.encode()).hexdigest()[:16]
        leader = Leader(
            calendar=self._store.calendar,
            ident=self._store.ident,
            group=group,
            ttl_s=self._config.elect_ttl,
            clock=self._clock,
            emit=self._bus.emit,
            on_elected=self.look_at_periodics,
        )
        self._cron = Cron(
            calendar=self._store.calendar,
            entries=entries,
            prepare=self._prepare,
            leads=leader.leads,
            clock=self._clock,
            emit=self._bus.emit,
            look_s=self._config.heartbeat_interval,  # as often as orders from afar are heard
            on_put_off=self._expect,
        )
        yield from (leader, self._cron)

    async def _prepare(self, job: Job) -> OutgoingJob | None:
        """A periodic's job as it is pushed; None if a client middleware lets none go on."""
        admitted = await self._admission(job)
        return admitted if isinstance(admitted, OutgoingJob) else None

    def start(self, more: Iterable[Loop] = ()) -> None:
        """Run the loops, and those given, each in a task of its own."""
        for loop in (*self._loops(), *more):
            runner = LoopRunner(loop, self._clock, self._on_defect)
            self._runners.append(runner)
            self.tasks.add(asyncio.create_task(runner.run(), name=f"kiqpy:loop:{loop.name}"))
        if self._config.schedulers:
            self._store.on_put_off(self._expect)

    def stop(self) -> None:
        """Begin no further round; `tasks` end when theirs has."""
        self._store.on_put_off(None)
        for runner in self._runners:
            runner.stop()

    def wake(self) -> None:
        """Begin a round of each now."""
        for runner in self._runners:
            runner.wake()

    def wake_one(self, name: str) -> None:
        """Begin a round of the loop with this name now, if there is one."""
        for runner in self._runners:
            if runner.loop.name == name:
                runner.wake()

    def look_at_periodics(self) -> None:
        """Have the leader's loop read now what was switched; does nothing elsewhere."""
        if self._cron is not None:
            self._cron.look()
            self.wake_one(self._cron.name)

    def _expect(self, in_s: float) -> None:
        """Promote a job of this process's own when it is due, whatever `poll_interval` is."""
        for runner in self._runners:
            if runner.loop.name == Promoter.name:
                runner.wake_within(max(SPACING_S, in_s))

    def _on_defect(self, loop: str, error: Exception) -> None:
        self._bus.emit(LoopFailed(loop, repr(error)))

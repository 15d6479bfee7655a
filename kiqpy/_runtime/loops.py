"""The loops of a started app: built, run, and stopped together."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from kiqpy._flow.loop import Loop, LoopRunner
from kiqpy._flow.service import StartStop
from kiqpy._flow.tasks import ended
from kiqpy._intake.admission import Admission
from kiqpy._loops.cron import Cron
from kiqpy._loops.lead import Leader
from kiqpy._loops.promote import SPACING_S, Promoter
from kiqpy._loops.rescue import Rescuer
from kiqpy._reporting.bus import Bus
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import StoreError, StoreUnavailable
from kiqpy.event import LoopFailed
from kiqpy.job import Job
from kiqpy.store import OutgoingJob, Store

_TICK_S: Final = 1.0  # what a tick that is under way gets at a stop, and once more when cancelled


@final
class LoopSet:
    """Everything that happens by time in one process: a `Service`.

    `more` makes the loops that the process has besides its own, anew at each start.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        bus: Bus,
        clock: Clock,
        admission: Admission,
        more: Callable[[], Iterable[Loop]] = tuple,
    ) -> None:
        self._config = config
        self._store = store
        self._bus = bus
        self._clock = clock
        self._admission = admission
        self._more = more
        self._runners: list[LoopRunner] = []
        self._cron: Cron | None = None
        self._tasks: dict[LoopRunner, asyncio.Task[None]] = {}
        self._service = StartStop[None]("the set of loops", None)

    def _loops(self) -> Iterator[Loop]:
        if not self._config.server:
            return
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

    async def start(self) -> None:
        """Run each loop in a task of its own."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        is_server = self._config.server
        more = [loop for loop in self._more() if is_server or loop.on_clients]
        for loop in (*self._loops(), *more):
            runner = LoopRunner(loop, self._clock, self._on_failure)
            self._runners.append(runner)
            self._tasks[runner] = asyncio.create_task(runner.run(), name=f"kiqpy:loop:{loop.name}")
        if is_server and self._config.schedulers:
            self._store.on_put_off(self._expect)

    def drain(self) -> None:
        """Begin no further round; those under way go on to their end."""
        self._store.on_put_off(None)
        for runner in self._runners:
            runner.stop()

    async def stop(self) -> None:
        """Drain, and cancel the rounds that have not ended within a second."""
        await self._service.stop(self._end)

    async def _end(self) -> None:
        self.drain()
        tasks = set(self._tasks.values())
        await ended(tasks, _TICK_S, self._clock)
        for task in tasks:
            task.cancel()
        await ended(tasks, _TICK_S, self._clock)
        self._runners.clear()
        self._tasks.clear()

    def wake(self) -> None:
        """Begin a round of each now."""
        for runner in self._runners:
            runner.wake()

    def wake_one(self, name: str) -> None:
        """Begin a round of the loop with this name now, if there is one."""
        for runner in self._runners:
            if runner.loop.name == name:
                runner.wake()

    def hung(self, round_s: float) -> dict[str, str]:
        """The loops that do nothing more, with why: ended, or at one round for longer than that."""
        found: dict[str, str] = {}
        for runner, task in self._tasks.items():
            if task.done():
                found[runner.loop.name] = "has ended"
            elif (took_s := runner.ticking_s()) > round_s:
                found[runner.loop.name] = f"has been at one round for {took_s:.0f} s"
        return found

    def failing(self) -> dict[str, str]:
        """The loops whose last round raised, with what; not those that the store has not answered.

        That is told of the store.
        """
        failures = {runner.loop.name: runner.failure for runner in self._runners}
        return {
            name: str(error) if isinstance(error, StoreError) else repr(error)
            for name, error in failures.items()
            if error is not None and not isinstance(error, StoreUnavailable)
        }

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

    def _on_failure(self, loop: str, error: Exception) -> None:
        text = str(error) if isinstance(error, StoreError) else repr(error)
        self._bus.emit(LoopFailed(loop, text))

"""The loops of a started app: built, run, and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import final

from kiqpy._flow.loop import Loop, LoopRunner
from kiqpy._loops.promote import Promoter
from kiqpy._loops.rescue import Rescuer
from kiqpy.bus import Bus
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.event import QueueRestarted
from kiqpy.store import Store


@final
class Upkeep:
    """Everything that happens by time in one process."""

    def __init__(self, config: Config, store: Store, bus: Bus, clock: Clock) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._config, self._store, self._bus, self._clock = config, store, bus, clock
        self._runners: list[LoopRunner] = []

    def _loops(self) -> Iterator[Loop]:
        yield Rescuer(self._store, self._config.suspicion, self._bus.emit)
        if self._config.schedulers:
            yield Promoter(self._store, self._config.poll_interval)

    def start(self) -> None:
        """Run the loops, each in a task of its own."""
        for loop in self._loops():
            runner = LoopRunner(loop, self._clock, self._on_defect)
            self._runners.append(runner)
            self.tasks.add(asyncio.create_task(runner.run(), name=f"kiqpy:loop:{loop.name}"))

    def halt(self) -> None:
        """Begin no further round; `tasks` end when theirs has."""
        for runner in self._runners:
            runner.stop()

    def wake(self) -> None:
        """Begin a round of each now."""
        for runner in self._runners:
            runner.wake()

    def _on_defect(self, loop: str, error: Exception) -> None:
        self._bus.emit(QueueRestarted(f"loop {loop}", repr(error), 0))

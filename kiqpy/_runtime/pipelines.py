"""The queues that a process works on: lines are added, scaled, paused and removed as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Final, final

from kiqpy import event
from kiqpy._flow.tasks import ended
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._stages.consumer import CANCEL_S, Perform, Run
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy._stages.source import ClaimSource
from kiqpy.clock import Clock
from kiqpy.errors import ConfigError, LifecycleError, StoreError
from kiqpy.event import Event
from kiqpy.queues import QueueGroup
from kiqpy.store import HeartbeatReply, Store

_SETTLE_S: Final = 5.0  # what the last settling gets at a stop


@final
class Pipelines:
    """Each line in a task of its own, found by the name of a queue in it."""

    def __init__(
        self,
        store: Store,
        audience: ReporterDispatcher,
        clock: Clock,
        on_trouble: Callable[[str, StoreError], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.resting = self._halted = False
        self._store, self._audience, self._clock = store, audience, clock
        self._on_trouble, self._on_failure = on_trouble, on_failure
        self._tasks: dict[QueuePipeline, asyncio.Task[None]] = {}
        self._groups: list[tuple[QueueGroup, QueuePipeline]] = []
        self._pauses: dict[str, type[Event]] = {}
        self._context = copy_context()

    # -- lines come and go

    def line(
        self, queue: str, limit: int, perform: Perform, store: Store | None = None
    ) -> QueuePipeline:
        """One queue's stages, not yet running; `store` may be another process's half."""
        store = store or self._store
        return self._make(ClaimSource([queue], store, on_pause=self._note), limit, perform, store)

    def _make(
        self, supply: ClaimSource, limit: int, perform: Perform, store: Store
    ) -> QueuePipeline:
        audience, clock = self._audience, self._clock
        return QueuePipeline(supply, limit, store, perform, audience, clock, self._on_trouble)

    async def add(self, queue: str, limit: int, perform: Perform) -> None:
        """Work on a queue; if it was removed and its last jobs still run, when they have ended."""
        while (held := self.find(queue)) is not None:  # again: two may have waited for its end
            if not held.ending:
                raise ConfigError(
                    f"queue {queue!r} is worked on already: use scale() for its limit"
                )
            await asyncio.wait({self._tasks[held]})
            await asyncio.sleep(0)  # until `_over` has seen it, too
        if self._halted:
            raise LifecycleError(f"queue {queue!r} is not added: the app is stopping")
        self.start(self.line(queue, limit, perform))

    def add_group(self, group: QueueGroup, perform: Perform) -> None:
        """Work on queues that share a limit."""
        order = group.order(self._clock.random)
        supply = ClaimSource(group.named(), self._store, order, self._note)
        line = self._make(supply, group.concurrency, perform, self._store)
        self._groups.append((group, line))
        self.start(line)

    def start(self, line: QueuePipeline) -> None:
        """Run a line until its end."""
        line.rest(self.resting)
        # A job may add a queue; the line then must not be taken for a task of that job's.
        task = asyncio.create_task(
            line.run(), name=f"kiqpy:queue:{line.name}", context=self._context.copy()
        )
        self._tasks[line] = task
        task.add_done_callback(lambda _task: self._over(line))

    def _over(self, line: QueuePipeline) -> None:
        task = self._tasks.pop(line)
        self._groups = [pair for pair in self._groups if pair[1] is not line]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def discover(self, names: Iterable[str]) -> None:
        """Take in those queues that a group's pattern means and nobody here works on."""
        known = set(self.queues())
        for queue in sorted(set(names) - known):
            line = next((line for group, line in self._groups if group.matches(queue)), None)
            if line is not None and not line.ending:
                line.supply.queues.append(queue)
                await line.wake()

    async def remove(self, queue: str) -> None:
        """Claim no more of a queue; its running jobs end in their own time."""
        line = self._named(queue)
        if len(line.supply.queues) > 1 or any(held is line for _, held in self._groups):
            raise ConfigError(f"queue {queue!r} belongs to a group: it can be paused, not removed")
        await line.quiet()

    def scale(self, queue: str, limit: int) -> None:
        """Run so many jobs of a queue, or of its group, at a time."""
        self._named(queue).scale(limit)

    def find(self, queue: str) -> QueuePipeline | None:
        """The line that works on a queue."""
        return next((line for line in self._tasks if queue in line.supply.queues), None)

    def _named(self, queue: str) -> QueuePipeline:
        line = self.find(queue)
        if line is None or line.ending:
            known = ", ".join(self.queues()) or "none"
            raise ConfigError(f"no queue {queue!r} is worked on here; there are: {known}")
        return line

    # -- what there is

    def subscriptions(self) -> dict[str, int]:
        """Each queue that is claimed from, with the limit of its line."""
        lines = [line for line in self._tasks if not line.ending]
        return {queue: line.limit for line in lines for queue in line.supply.queues}

    def queues(self) -> list[str]:
        """Each queue that has something to do with this process, ending ones too."""
        return [queue for line in self._tasks for queue in line.supply.queues]

    def concurrency(self) -> int:
        """How many jobs may run here at a time."""
        return sum(line.limit for line in self._tasks if not line.ending)

    def runs(self) -> list[Run]:
        """What runs now."""
        return [run for line in self._tasks for run in line.runs()]

    # -- all of them

    async def rest(self, resting: bool) -> None:
        """Claim nothing until told otherwise; what runs goes on."""
        self.resting = resting
        for line in self._tasks:
            line.rest(resting)
        await self.wake()

    async def wake(self, queue: str | None = None) -> None:
        """Look for jobs now, in one queue or in all."""
        lines = list(self._tasks) if queue is None else [self._named(queue)]
        await asyncio.gather(*(line.wake() for line in lines))

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt those of the cancelled jobs that run here."""
        for line in self._tasks:
            line.cancel(cancelled)

    async def reconcile(self, orders: HeartbeatReply) -> None:
        """Compare what the store has on record with what is known here."""
        for line in list(self._tasks):
            try:
                await line.reconcile(orders)
            except StoreError as error:  # the next heartbeat brings another chance
                self._on_trouble(line.name, error)

    async def halt(self) -> None:
        """Claim nothing more and add no queue, ever."""
        self._halted = True
        await self.quiet()

    async def quiet(self) -> None:
        """Claim no more of the queues there are."""
        await asyncio.gather(*(line.quiet() for line in self._tasks))

    async def end(self, grace_s: float, late: asyncio.Event) -> int:
        """Dry the lines out; what outlasts the grace goes back to the heads of its queues."""
        tasks = set(self._tasks.values())
        if await ended(tasks, grace_s, self._clock, late):
            return 0
        released = len(self.runs())
        await asyncio.gather(*(line.release(CANCEL_S) for line in list(self._tasks)))
        await ended(tasks, _SETTLE_S, self._clock)
        for task in tasks:
            task.cancel()
        await ended(tasks, 1.0, self._clock)
        return released

    def _note(self, queue: str, paused: bool) -> None:
        """Tell of a queue that the cluster has paused, or lets run again."""
        if not paused and queue not in self._pauses:
            return
        telling: Event = event.QueueRunning(queue)
        if paused:
            running = sum(run.claim.queue == queue for run in self.runs())
            telling = event.QueuePausing(queue, running) if running else event.QueuePaused(queue)
        if self._pauses.pop(queue, None) is not type(telling):
            self._audience.bus.emit(telling)
        if paused:
            self._pauses[queue] = type(telling)

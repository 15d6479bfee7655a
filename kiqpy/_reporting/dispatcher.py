"""Delivers job events to reporters, each in a task of its own behind its own bounded queue."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, final

from kiqpy._flow.edge import Edge
from kiqpy._flow.service import StartStop
from kiqpy._reporting.bus import Bus
from kiqpy.errors import ConfigError
from kiqpy.event import Event, ReporterDetached
from kiqpy.reporter import Reporter

_MAX_ERRORS: Final = 5  # in a row: then it is not the event's fault


@final
class ReporterWorker:
    """One reporter and the events that wait for it."""

    def __init__(self, reporter: Reporter, bus: Bus) -> None:
        self.reporter = reporter
        self.name = type(reporter).__qualname__
        if reporter.overflow not in ("block", "drop_oldest"):
            raise ConfigError(
                f'{self.name}.overflow={reporter.overflow!r}: give "block" or "drop_oldest"'
            )
        if reporter.batches and type(reporter).handle_many is Reporter.handle_many:
            raise ConfigError(f"{self.name}.batches is True: override handle_many, too")
        self.kinds = reporter.listens_to()
        self.edge: Edge[Event] = Edge(reporter.limit)
        self.dropped = 0
        self.detached = False
        self._bus = bus
        self._errors = 0
        self._in_hand: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None

    async def emit(self, events: list[Event]) -> None:
        """Put events into the reporter's queue; if it is full, do as its `overflow` says."""
        if self.detached:
            return
        if len(events) <= self.edge.demand():
            self.edge.offer(events)
            return
        if self.reporter.overflow == "block":
            await self.edge.put(events)
            return
        self._make_room(len(events))
        room = self.edge.demand()  # all of it, but for the event that is being handled
        newest = events[-room:] if room > 0 else []
        self.dropped += len(events) - len(newest)
        self.edge.offer(newest)

    def _make_room(self, n: int) -> None:
        """Drop the oldest events: those in hand that were not begun, then those that wait."""
        over = min(n, self.edge.limit) - self.edge.demand()
        if over > 0:
            skipped = min(over, len(self._in_hand))
            for _ in range(skipped):
                self._in_hand.popleft()
            self.edge.done(skipped)
            self.dropped += skipped + self.edge.shed(over - skipped)

    async def run(self) -> None:
        """Handle events until the edge is closed. A reporter that can't is detached."""
        while (events := await self.edge.get()) is not None:
            if self.reporter.batches:
                if not self.detached:
                    await self._handle(partial(self.reporter.handle_many, events))
                self.edge.done(len(events))
                continue
            self._in_hand.extend(events)
            while self._in_hand:
                event = self._in_hand.popleft()
                if not self.detached:
                    await self._handle(partial(self.reporter.handle, event))
                self.edge.done(1)

    async def _handle(self, call: Callable[[], object]) -> None:
        patience: asyncio.Timeout | None = None  # only for what waits: most handlers never do
        try:
            answer = call()
            if answer is not None and inspect.isawaitable(answer):
                async with asyncio.timeout(self.reporter.stall_timeout) as patience:
                    await answer
            self._errors = 0
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            if _is_cancelled():
                raise
            self._errors += 1
            if isinstance(error, TimeoutError) and patience is not None and patience.expired():
                self._detach(f"one handler took longer than {self.reporter.stall_timeout} s")
            elif self._errors >= _MAX_ERRORS:
                self._detach(f"{_MAX_ERRORS} errors in a row, the last: {error!r}")

    def _detach(self, reason: str) -> None:
        self.detached = True
        self._bus.emit(ReporterDetached(self.name, reason))

    async def start(self) -> None:
        """Start the reporter; raises what that raises, for then the app is not to start."""
        if self.edge.statistics().closed:  # it is started again
            self.edge = Edge(self.reporter.limit)
            self.detached = False
            self._errors = 0
        await _answered(self.reporter.start())
        self._task = asyncio.create_task(self.run(), name=f"kiqpy:reporter:{self.name}")

    async def stop(self) -> None:
        """Deliver what waits, then stop the reporter; if that fails, emit ReporterDetached."""
        self.edge.close()
        if self._task is None:
            return
        await asyncio.wait({self._task})
        try:
            async with asyncio.timeout(self.reporter.stall_timeout):
                await _answered(self.reporter.stop())
        except Exception as error:
            self._detach(f"its stop raised {error!r}")

    async def cut(self) -> None:
        """Deliver nothing more. After `stop`, which may have been cancelled."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _answered(answer: object) -> None:
    if inspect.isawaitable(answer):
        await answer


def _is_cancelled() -> bool:
    """Whether we are being cancelled; a handler may raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@final
class ReporterDispatcher:
    """All reporters, and the bus: a `Service`.

    Ask `has_listeners` before making an event: most have none.
    """

    def __init__(self, reporters: Sequence[Reporter], bus: Bus) -> None:
        self.bus = bus
        self.workers = [ReporterWorker(reporter, bus) for reporter in reporters]
        self._workers_of: dict[type[Event], list[ReporterWorker]] = {}
        self._kinds = frozenset[type[Event]]().union(*(w.kinds for w in self.workers))
        self._stops: set[asyncio.Task[None]] = set()
        self._service = StartStop[None]("the dispatcher", None)

    def has_listeners(self, kind: type[Event]) -> bool:
        """Whether a reporter or a handler wants events of this kind, now. Cheap: asked per job."""
        return kind in self._kinds or kind.name in self.bus.listened

    async def emit(self, events: list[Event]) -> None:
        """Call the bus's handlers, then put the events into the reporters' queues, in order.

        Waits for reporters that block, for as long as they do.
        """
        listened = self.bus.listened
        for event in events:
            if event.name in listened:
                self.bus.emit(event)
        if len(events) == 1:  # a start: there is one for each job
            for worker in self._listeners(type(events[0])):
                await worker.emit(events)
            return
        for worker in self.workers:
            wanted = [event for event in events if type(event) in worker.kinds]
            if wanted:
                await worker.emit(wanted)

    def _listeners(self, kind: type[Event]) -> list[ReporterWorker]:
        found = self._workers_of.get(kind)
        if found is None:
            found = self._workers_of[kind] = [w for w in self.workers if kind in w.kinds]
        return found

    async def start(self) -> None:
        """Start the reporters, in order."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        for worker in self.workers:
            await worker.start()

    async def stop(self) -> None:
        """Deliver to each reporter what waits for it, then stop it; none waits for another.

        Cancel: what waits is not delivered any more.
        """
        await self._service.stop(self._end, on_cancel=self._hurry)

    async def _end(self) -> None:
        self._stops = {asyncio.ensure_future(worker.stop()) for worker in self.workers}
        if self._stops:
            await asyncio.wait(self._stops)
        await asyncio.gather(*(worker.cut() for worker in self.workers))

    def _hurry(self) -> None:
        for stop in self._stops:
            stop.cancel()

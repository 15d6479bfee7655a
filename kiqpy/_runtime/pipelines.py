"""The pipelines of a process: added, scaled, paused and removed while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, final

from kiqpy import event
from kiqpy._declare.sources import QueueSpec
from kiqpy._extensions.extension import OwnQueue
from kiqpy._flow.service import StartStop
from kiqpy._flow.tasks import ended, own_context
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.effects import EffectsOf
from kiqpy._runtime.capacity import Capacity
from kiqpy._stages.consumer import CANCEL_S, Perform, Run
from kiqpy._stages.monitor import Monitor
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy._stages.source import StoreSources
from kiqpy.clock import Clock
from kiqpy.errors import ConfigError, LifecycleError, StoreError
from kiqpy.event import Event
from kiqpy.store import HeartbeatReply, Source, Store

_SETTLE_S: Final = 5.0  # what the last settling gets at a stop


@final
class Pipelines:
    """Each pipeline in a task of its own, found by the name of a queue in it: a `Service`.

    `specs`: what is worked on from the start on, and `own`: what has a store's half of its own.
    `perform` runs the jobs of all queues.
    """

    def __init__(
        self,
        *,
        specs: Sequence[QueueSpec],
        perform: Perform,
        store: Store,
        dispatcher: ReporterDispatcher,
        clock: Clock,
        monitor: Monitor,
        effects_of: Sequence[EffectsOf],
        capacity: Capacity,
        own: Sequence[OwnQueue] = (),
    ) -> None:
        self.is_quiet = False
        self._closed = True  # until the start
        self._declared = specs
        self._own = own
        self._perform = perform
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._monitor = monitor
        self._effects_of = effects_of
        self._capacity = capacity
        self._tasks: dict[QueuePipeline, asyncio.Task[None]] = {}
        self._specs: dict[QueuePipeline, QueueSpec] = {}
        self._pauses: dict[str, type[Event]] = {}
        self._hurry = asyncio.Event()
        self._service = StartStop[list[Run]]("the set of pipelines", [])

    # -- all of them start and stop

    async def start(self) -> None:
        """Work on what is declared."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        self._closed = False
        self._hurry = asyncio.Event()
        if not self._specs:
            self.prepare()
        for pipeline in self._specs:
            self._run(pipeline)

    async def stop(self, grace_s: float = 0.0) -> list[Run]:
        """Claim no more, let what runs end, and give the rest back: what went back.

        What outlasts `grace_s`, or `hurry`, goes to the heads of its queues. Cancel: as `hurry`.
        """
        return await self._service.stop(lambda: self._end(grace_s), on_cancel=self.hurry)

    def hurry(self) -> None:
        """End the grace of a `stop` that is under way."""
        self._hurry.set()

    async def _end(self, grace_s: float = 0.0) -> list[Run]:
        self.close()
        closing = asyncio.ensure_future(self.drain())
        await ended({closing}, _SETTLE_S, self._clock)
        released = await self._release(grace_s)
        closing.cancel()
        await ended({closing}, 1.0, self._clock)
        for pipeline in self._specs.keys() - self._tasks.keys():  # was not run
            del self._specs[pipeline]
        return released

    # -- pipelines come and go

    def pipeline(
        self, spec: QueueSpec, perform: Perform | None = None, store: Source | None = None
    ) -> QueuePipeline:
        """The stages of one declaration, not yet running; `store` may be another process's half."""
        store = store or self._store
        return QueuePipeline(
            source=spec.source(StoreSources(store, self._clock, self._monitor)),
            limit=self._capacity.bound(spec.concurrency, spec),
            store=store,
            perform=perform or self._perform,
            dispatcher=self._dispatcher,
            clock=self._clock,
            monitor=self._monitor,
            effects_of=self._effects_of,
        )

    def prepare(self) -> None:
        """Say from now on what is declared; `start` begins the work."""
        for spec in self._declared:
            self._prepare(spec)
        for spec, store in self._own:
            self._prepare(spec, store)

    def _prepare(self, spec: QueueSpec, store: Source | None = None) -> QueuePipeline:
        pipeline = self.pipeline(spec, store=store)
        self._specs[pipeline] = spec
        return pipeline

    def _run(self, pipeline: QueuePipeline) -> None:
        """Work on it until it ends."""
        pipeline.quiet(self.is_quiet)
        # A job may add a queue; the pipeline then must not be taken for a task of that job's.
        task = asyncio.create_task(
            pipeline.run(), name=f"kiqpy:queue:{pipeline.name}", context=own_context()
        )
        self._tasks[pipeline] = task
        task.add_done_callback(lambda _task: self._ended(pipeline))

    def _ended(self, pipeline: QueuePipeline) -> None:
        task = self._tasks.pop(pipeline)
        del self._specs[pipeline]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._monitor.on_failure(error)

    async def add(self, spec: QueueSpec) -> None:
        """Work on more; if a queue was removed and its last jobs still run, when they have ended.

        ConfigError: a queue is worked on already. LifecycleError: the app is stopping.
        """
        for queue in spec.named():
            await self._until_free(queue)
        if self._closed:
            names = ", ".join(map(repr, spec.named()))
            raise LifecycleError(f"queue {names} is not added: the app is stopping")
        self._run(self._prepare(spec))

    async def _until_free(self, queue: str) -> None:
        while (held := self.find(queue)) is not None:  # again: two may have waited for its end
            if not held.draining:
                raise ConfigError(
                    f"queue {queue!r} is worked on already: use scale() for its limit"
                )
            await asyncio.wait({self._tasks[held]})
            await asyncio.sleep(0)  # until `_ended` has seen it, too

    async def discover(self, names: Iterable[str]) -> None:
        """Work on the queues that match a declared pattern, unless a pipeline here has them."""
        for queue in sorted(set(names) - set(self.queues())):
            matching = (p for p, spec in self._specs.items() if spec.matches(queue))
            pipeline = next(matching, None)
            if pipeline is not None and not pipeline.draining:
                pipeline.source.queues.append(queue)
                await pipeline.wake()

    async def remove(self, queue: str) -> None:
        """Stop claiming from a queue; its running jobs go on."""
        pipeline = self._named(queue)
        if self._specs[pipeline].shared:
            raise ConfigError(f"queue {queue!r} belongs to a group: it can be paused, not removed")
        await pipeline.drain()

    def scale(self, queue: str, limit: int) -> None:
        """Run so many jobs of a queue, or of its group, at a time; no more than its capacity."""
        pipeline = self._named(queue)
        pipeline.scale(self._capacity.bound(limit, self._specs[pipeline]))

    def find(self, queue: str) -> QueuePipeline | None:
        """The pipeline that works on a queue."""
        return next((p for p in self._tasks if queue in p.source.queues), None)

    def _named(self, queue: str) -> QueuePipeline:
        pipeline = self.find(queue)
        if pipeline is not None and not pipeline.draining:
            return pipeline
        known = ", ".join(self.subscriptions()) or "none"
        removed = "" if pipeline is None else " any more, it was removed"
        raise ConfigError(f"no queue {queue!r} is worked on here{removed}; there are: {known}")

    # -- inspect

    def subscriptions(self) -> dict[str, int]:
        """Each queue that is claimed from, with the limit of its pipeline."""
        pipelines = [pipeline for pipeline in self._tasks if not pipeline.draining]
        return {queue: p.limit for p in pipelines for queue in p.source.queues}

    def queues(self) -> list[str]:
        """Each queue that this process works on, including queues that are draining."""
        return [queue for pipeline in self._specs for queue in pipeline.source.queues]

    def concurrency(self) -> int:
        """How many jobs may run here at a time."""
        return sum(pipeline.limit for pipeline in self._specs if not pipeline.draining)

    def claims_from(self, queue: str) -> bool:
        """Whether jobs of a queue begin here now."""
        pipeline = None if self._closed or self.is_quiet else self.find(queue)
        return pipeline is not None and not pipeline.draining

    def capsules(self) -> dict[str, dict[str, Any]]:
        """Each pipeline by its first queue, as Sidekiq 8 lists what a process works on."""
        return {
            p.source.queues[0]: {
                "concurrency": p.limit,
                "mode": "strict",
                "weights": dict.fromkeys(p.source.queues, 0),
            }
            for p in self._specs
            if p.source.queues and not p.draining
        }

    def paused(self) -> list[str]:
        """The queues that the cluster has paused, as the last fetches have found."""
        return sorted(self._pauses)

    def runs(self) -> list[Run]:
        """The runs in progress."""
        return [run for pipeline in self._tasks for run in pipeline.runs()]

    # -- all of them

    async def quiet(self, on: bool) -> None:
        """Stop claiming jobs, or with `on=False` claim again; running jobs go on."""
        self.is_quiet = on
        for pipeline in self._tasks:
            pipeline.quiet(on)
        await self.wake()

    async def wake(self, queue: str | None = None) -> None:
        """Look for jobs now, in one queue or in all."""
        pipelines = list(self._tasks) if queue is None else [self._named(queue)]
        await asyncio.gather(*(pipeline.wake() for pipeline in pipelines))

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt the cancelled jobs that run here, and remove them from `cancelled`."""
        for pipeline in self._tasks:
            pipeline.cancel(cancelled)

    async def reconcile(self, reply: HeartbeatReply) -> None:
        """Compare the claims that the store has on record for this process with the runs here."""
        for pipeline in list(self._tasks):
            try:
                await pipeline.reconcile(reply)
            except StoreError as error:  # the next heartbeat brings another chance
                self._monitor.on_error(pipeline.name, error)

    async def drain(self) -> None:
        """Never claim from the present queues again; others may be added."""
        await asyncio.gather(*(pipeline.drain() for pipeline in self._tasks))

    def close(self) -> None:
        """Let no claim begin and no queue be added any more; `stop` is to follow."""
        self._closed = True
        for pipeline in self._tasks:
            pipeline.quiet(True)

    async def _release(self, grace_s: float) -> list[Run]:
        tasks = set(self._tasks.values())
        if await ended(tasks, grace_s, self._clock, self._hurry):
            return []
        each = await asyncio.gather(*(p.release(CANCEL_S) for p in list(self._tasks)))
        await ended(tasks, _SETTLE_S, self._clock)
        for task in tasks:
            task.cancel()
        await ended(tasks, 1.0, self._clock)
        return list(chain.from_iterable(each))

    def on_pause(self, queue: str, paused: bool) -> None:
        """Emit an event when the cluster has paused a queue, or lets it run again."""
        if not paused and queue not in self._pauses:
            return
        change: Event = event.QueueRunning(queue)
        if paused:
            running = sum(run.claim.queue == queue for run in self.runs())
            change = event.QueuePausing(queue, running) if running else event.QueuePaused(queue)
        if self._pauses.pop(queue, None) is not type(change):
            self._dispatcher.bus.emit(change)
        if paused:
            self._pauses[queue] = type(change)

"""The engine of an app: starts its parts in order, and stops them in reverse.

Theory of the stop. Nothing may be lost, and nothing that hangs may keep the process alive: each
step is awaited for a bounded time and then cancelled.

1. The loops begin no further round, and the pipelines claim no further job. A wait for jobs that is
   under way is ended first: what it has just received goes back to its queue.
2. Jobs get the grace, which `hurry` ends early. Then they are cancelled, and 3 s later their claims
   go back to the heads of their queues, whether they have ended or not.
3. The last acks are settled, 5 s; then each reporter gets what waits for it, 5 s.
4. The client sends what it has buffered, 5 s. It is stopped after the jobs: they may enqueue.
5. The heartbeat stops, and the process deletes its lease and notes. It comes after all that needs
   the lease; a store that does not answer lets the lease run out, and others rescue what is left.

What is emitted after step 3 reaches handlers of the bus, and reporters no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, final

from kiqpy import event
from kiqpy._extensions import builtin
from kiqpy._extensions.composition import Composition
from kiqpy._extensions.extension import MakeExtension
from kiqpy._flow.loop import Loop
from kiqpy._flow.once import Troubles
from kiqpy._flow.service import StartStop
from kiqpy._flow.tasks import TaskSet, ended
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._intake.client import Client, ClientSettings
from kiqpy._intake.enqueue import Enqueuer
from kiqpy._intake.lanes import LaneAdmission
from kiqpy._intake.protocol import JobClient
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.decide import Rules
from kiqpy._runtime.capacity import Capacity
from kiqpy._runtime.heartbeat import HeartbeatSettings, HeartbeatThread, MakeHeartbeat
from kiqpy._runtime.loops import LoopSet
from kiqpy._runtime.pipelines import Pipelines
from kiqpy._runtime.process_info import ProcessInfo, Vitals
from kiqpy._stages.consumer import Run
from kiqpy._stages.executor import Executor
from kiqpy._stages.perform import Defaults, Performer
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import LifecycleError, StoreError
from kiqpy.middleware import compile_client
from kiqpy.queues import Queue
from kiqpy.reporter import Reporter
from kiqpy.store import Heartbeat, HeartbeatReply, Store

_log = logging.getLogger("kiqpy")
_MAX_JIDS_LOGGED: Final = 50
_SETTLE_S: Final = 5.0  # what the reporters, the client and the last settling get at a stop


def _as_it_is(client: JobClient) -> JobClient:
    return client


def _unslowed(loop: Loop) -> Loop:
    return loop


class EngineParts(NamedTuple):
    """What an environment gives an engine: its store, and what differs where time is virtual.

    `wrap_client` may stand something before the client; `slow_down` may wrap a loop that looks for
    what other processes do.
    """

    store: Store
    heartbeat: MakeHeartbeat = HeartbeatThread
    wrap_client: Callable[[JobClient], JobClient] = _as_it_is
    slow_down: Callable[[Loop], Loop] = _unslowed


@final
class Engine:
    """One started app: its store, client, pipelines, loops, heartbeat and extensions.

    A `Service` that runs once; each start of an app makes another.

    Its parts report to it: it is the stages' `Monitor`, the heartbeat's `HeartbeatOwner`, and the
    extensions' `Host`.
    """

    def __init__(
        self,
        *,
        config: Config,
        registry: Registry,
        reporters: Sequence[Reporter],
        parts: EngineParts,
        bus: Bus,
        clock: Clock,
        on_failure: Callable[[BaseException], None],
        on_signal: Callable[[str], None],
        extensions: Sequence[MakeExtension] = (),
    ) -> None:
        self.config = config
        self.registry = registry
        self.reporters = reporters
        self.store = parts.store
        self.bus = bus
        self.clock = clock
        self.vitals = Vitals(clock)
        self._on_failure = on_failure
        self._on_signal = on_signal
        self._slow_down = parts.slow_down
        self._troubles = Troubles(self.clock)
        self._tasks = TaskSet()
        self._up = False
        self._service = StartStop[int]("the engine", 0, once=True)
        self.executor = Executor(config.threads, config.processes, clock, bus)
        self._composition = Composition(self, builtin.extensions(extensions))
        self.dispatcher = ReporterDispatcher(self._composition.reporters(), bus)
        self.effects_of = self.store.effects_of = self._composition.effects_of()
        self._performer = self.performer()
        self.pipelines = self._make_pipelines()
        self.client = parts.wrap_client(self._composition.around_client(self._make_client()))
        admission = self._make_admission()
        self._enqueuer = Enqueuer(admission, self.client)
        self.enqueuer = self._composition.around_enqueuer(self._enqueuer)
        self.loops = LoopSet(config, self.store, bus, clock, admission, self._more_loops)
        self._info = ProcessInfo(self.store.ident, self.pipelines, config.lease_ttl, clock)
        self._heartbeat = parts.heartbeat(
            self.store,
            clock,
            HeartbeatSettings(config.heartbeat_interval, config.stuck_after),
            self,
        )

    def _make_pipelines(self) -> Pipelines:
        return Pipelines(
            specs=self.config.specs(),
            perform=self._performer,
            store=self.store,
            dispatcher=self.dispatcher,
            clock=self.clock,
            monitor=self,
            effects_of=self.effects_of,
            capacity=Capacity(self.registry.specs(), self.config.threads, self.config.processes),
            own=self._composition.own_queues(),
        )

    def _more_loops(self) -> Iterable[Loop]:
        return map(self._slow_down, self._composition.loops())

    def _make_client(self) -> Client:
        return Client(
            self.store,
            self.clock,
            _client_settings(self.config),
            self.bus.emit,
            self.on_failure,
            self.bus.has_listeners,
        )

    def _make_admission(self) -> Admission:
        config, registry = self.config, self.registry
        lanes = LaneAdmission(config.groups, config.all_queues(), registry)
        settings = AdmissionSettings(config.retry, config.max_payload, registry.declared, lanes)
        chain = compile_client(self._composition.client_middleware())
        return Admission(settings, self.clock, chain)

    def __repr__(self) -> str:
        state = "up" if self._up else "down"
        return f"<Engine {self.store.ident} {state}, {len(self.pipelines.runs())} running>"

    # -- the start

    async def start(self) -> None:
        """Start in order; if one thing fails, stop what has started and raise."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        self.recompose()
        await self.store.open()
        self.vitals.store_answered()
        if self.config.server:
            self.pipelines.prepare()  # so that the first heartbeat lists them
            await self._heartbeat.start()
        await self.client.start()
        await self.dispatcher.start()
        if self.config.server:
            await self.pipelines.start()
        await self.loops.start()
        self._up = True
        if self.config.server:
            self.bus.emit(event.ProcessStarted(self.store.ident))

    def pipeline(self, queue: str, limit: int, store: Store, performer: Performer) -> QueuePipeline:
        """One queue's stages, not yet running; `store` may be another process's half."""
        return self.pipelines.pipeline(Queue(limit, queue), performer, store)

    def recompose(self) -> None:
        """See `Host`."""
        self.enqueuer = self._composition.around_enqueuer(self._enqueuer)
        self._composition.detach(self.bus)
        self._composition.attach(self.bus)
        self._performer.recompose(self._composition.steps())

    def performer(self) -> Performer:
        """The part that runs this app's jobs."""
        config = self.config
        return Performer(
            registry=self.registry,
            executor=self.executor,
            dispatcher=self.dispatcher,
            clock=self.clock,
            defaults=Defaults(
                rules=Rules(retry=config.retry, backoff=config.backoff, backtrace=config.backtrace),
                timeout_s=config.timeout,
            ),
            steps=self._composition.steps(),
        )

    # -- reports of its parts (Monitor, HeartbeatOwner)

    def on_error(self, queue: str, error: StoreError) -> None:
        """Emit an event, once for each cause, until the queue has recovered."""
        if self._troubles.first(queue, str(error)):
            self.bus.emit(event.FetchFailed(queue, str(error)))

    def on_recovery(self, queue: str) -> None:
        """Emit an event, if one was emitted for the trouble."""
        if (away_s := self._troubles.over(queue)) is not None:
            self.bus.emit(event.FetchRestored(queue, away_s))

    def on_failure(self, error: BaseException) -> None:
        """Ask the app to stop, because a part of it has failed for good."""
        self._on_failure(error)

    def on_pause(self, queue: str, paused: bool) -> None:
        """See `Monitor`."""
        self.pipelines.on_pause(queue, paused)

    def heartbeat(self) -> Heartbeat:
        """See `HeartbeatOwner`."""
        return self._info.heartbeat()

    def on_reply(self, reply: HeartbeatReply) -> None:
        """See `HeartbeatOwner`."""
        self.vitals.store_answered()
        self._tasks.start(self.pipelines.reconcile(reply), name="kiqpy:reconcile")
        if reply.signal:
            self._on_signal(reply.signal)

    def on_lease_lost(self) -> None:
        """See `HeartbeatOwner`."""
        self.bus.emit(event.LeaseLapsed(self.store.ident))

    def on_lag(self, lag: event.LoopLag) -> None:
        """See `HeartbeatOwner`."""
        self.vitals.loop_was_blocked(lag)
        self.bus.emit(lag)

    # -- control

    async def add_queue(self, queue: str, limit: int) -> None:
        """Work on one more queue."""
        if not self.config.server:
            raise LifecycleError(f"queue {queue!r} is not added: this app only enqueues")
        await self.pipelines.add(Queue(limit, queue))

    async def quiet(self, on: bool = True) -> None:
        """Stop claiming jobs, or with `on=False` claim again; running jobs go on."""
        if on == self.pipelines.is_quiet:
            return
        await self.pipelines.quiet(on)
        if on and self._up:
            self.bus.emit(event.ProcessQuiet(self.store.ident))

    # -- the stop

    async def stop(self, grace_s: float = 0.0) -> int:
        """Let jobs end for `grace_s`, push the rest back, flush the client, leave.

        Returns how many jobs the client could not make durable. Ends within `grace_s` and some
        25 s, whatever jobs, reporters and the store do: see the head of this module. Cancel: ends
        the grace.
        """
        return await self._service.stop(lambda: self._end(grace_s), on_cancel=self.hurry)

    async def _end(self, grace_s: float = 0.0) -> int:
        is_process = self._up and self.config.server
        if is_process:
            self.bus.emit(event.ProcessStopping(self.store.ident, grace_s))
        self.loops.drain()
        self.pipelines.close()
        released, _ = await asyncio.gather(self.pipelines.stop(grace_s), self.loops.stop())
        _report_released(released)
        await self._finish({asyncio.ensure_future(self.dispatcher.stop())}, _SETTLE_S)
        self.executor.close()
        unflushed = await self.client.stop(_SETTLE_S)
        await self._finish({*self._tasks}, 0.0)
        await self._heartbeat.stop()
        await self._finish({*self._tasks}, 0.0)  # what the last heartbeat's reply began
        await self.store.close()
        if is_process:
            self.bus.emit(event.ProcessStopped(self.store.ident, len(released)))
        self.bus.end()
        self._composition.detach(self.bus)
        return unflushed

    def abandon(self) -> None:
        """End threads and processes at once: the event loop was closed without a stop."""
        self._heartbeat.abandon()
        self._composition.detach(self.bus)
        with suppress(RuntimeError):  # it cancels what the closed loop has awaited
            self.executor.close()

    def hurry(self) -> None:
        """End the grace of a `stop` that is under way."""
        self.pipelines.hurry()

    async def _finish(self, tasks: set[asyncio.Task[Any]], within_s: float) -> None:
        """Wait a while, then cancel; raises nothing."""
        await ended(tasks, within_s, self.clock)
        for task in tasks:
            task.cancel()
        await ended(tasks, 1.0, self.clock)


def _report_released(runs: Sequence[Run]) -> None:
    if not runs:
        return
    jids = [run.job.jid if run.job is not None else "(not read)" for run in runs]
    more = f" and {len(jids) - _MAX_JIDS_LOGGED} more" if len(jids) > _MAX_JIDS_LOGGED else ""
    names = ", ".join(jids[:_MAX_JIDS_LOGGED]) + more
    _log.warning("jobs outlasted the grace and went back to their queues: %s", names)


def _client_settings(config: Config) -> ClientSettings:
    return ClientSettings(
        flush_interval_s=config.flush_interval,
        confirm_timeout_s=config.confirm_timeout,
        push_timeout_s=config.push_timeout,
        buffer_jobs=config.buffer_limit,
        buffer_bytes=config.buffer_bytes,
    )

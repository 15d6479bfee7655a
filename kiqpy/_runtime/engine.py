"""What runs between `start` and `stop`: everything is started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, final

from kiqpy import event
from kiqpy._flow.loop import Loop
from kiqpy._flow.tasks import ended
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._intake.client import Client, ClientSettings
from kiqpy._intake.enqueue import Enqueuer
from kiqpy._intake.protocol import JobClient
from kiqpy._loops.cancel import Canceller
from kiqpy._loops.discover import Discoverer
from kiqpy._loops.leaks import LeakWatch
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.death_hooks import DeathHooks
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.decide import Rules
from kiqpy._runtime.heartbeat import HeartbeatSender, HeartbeatThread
from kiqpy._runtime.loops import LoopSet
from kiqpy._runtime.pipelines import Pipelines
from kiqpy._runtime.process_info import ProcessInfo
from kiqpy._stages.executor import Executor
from kiqpy._stages.perform import Defaults, Performer
from kiqpy._stages.pipeline import QueuePipeline
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import LifecycleError, StoreError
from kiqpy.middleware import compile_client, compile_server
from kiqpy.observe.log import context
from kiqpy.reporter import Reporter
from kiqpy.store import HeartbeatReply, Store

_SETTLE_S: Final = 5.0  # what the reporters, the client and the last settling get at a stop
_TROUBLES: Final = 100  # told of one process; a text that varies must not fill the log


def _as_it_is(client: Client) -> JobClient:
    return client


def _unslowed(loop: Loop) -> Loop:
    return loop


class EngineParts(NamedTuple):
    """What an environment gives an engine: its store, and what differs where time is virtual.

    `wrap_client` may stand something before the client; `slow_down` may wrap a loop that looks for
    what other processes do.
    """

    store: Store
    heartbeat: type[HeartbeatSender] = HeartbeatThread
    wrap_client: Callable[[Client], JobClient] = _as_it_is
    slow_down: Callable[[Loop], Loop] = _unslowed


@final
class Engine:
    """One started app: its store, client, pipelines, loops and heartbeat."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        reporters: list[Reporter],
        parts: EngineParts,
        bus: Bus,
        clock: Clock,
        on_failure: Callable[[BaseException], None],
        on_signal: Callable[[str], None],
    ) -> None:
        store = parts.store
        self.config = config
        self.store = store
        self.bus = bus
        self.clock = clock
        self._slow_down = parts.slow_down
        self.client = parts.wrap_client(
            Client(store, clock, _client_settings(config), bus.emit, on_failure, bus.handlers)
        )
        farewell = DeathHooks(registry, config.death_handlers)
        self.audience = ReporterDispatcher([*reporters, farewell], bus, clock)
        admission = _admission(config, clock)
        self.enqueuer = Enqueuer(admission, self.client)
        self.upkeep = LoopSet(config, store, bus, clock, admission)
        self.lines = Pipelines(store, self.audience, clock, self._on_trouble, on_failure)
        self._registry, self._on_signal = registry, on_signal
        self._chores: set[asyncio.Task[None]] = set()
        self._trouble: set[tuple[str, str]] = set()
        self._late = asyncio.Event()
        self._up = False
        self._perform: Performer | None = None  # a client has none
        self._executor = Executor(config.threads, config.processes)
        self.pulse = ProcessInfo(store.ident, self.lines, config.lease_ttl, clock)
        self._heartbeat: HeartbeatSender = parts.heartbeat(
            store, clock, config.heartbeat_interval, config.stuck_after,
            self.pulse,
            self._on_orders, self._on_lapse, self._on_lag,
        )  # fmt: skip

    async def start(self) -> None:
        """Start in order; if one thing fails, stop what has started and raise."""
        try:
            await self.store.open()
            if self.config.server:
                await self._heartbeat.start()
            await self.client.start()
            await self.audience.start()
            if self.config.server:
                self._start_lines()
                self.upkeep.start(map(self._slow_down, self._watchers()))
        except BaseException:
            await self.stop(0.0)
            raise
        self._up = True
        self.bus.emit(event.ProcessStarted(self.store.ident))

    def _start_lines(self) -> None:
        self._perform = perform = self.performer()
        for queue, limit in self.config.queues.items():
            self.lines.start(self.lines.line(queue, limit, perform))
        for group in self.config.groups:
            self.lines.add_group(group, perform)

    def _watchers(self) -> Iterator[Loop]:
        """What is looked for while jobs run."""
        lines, config = self.lines, self.config
        yield Canceller(self.store, lines.runs, lines.cancel)
        if config.leaked_tasks != "ignore":
            yield LeakWatch(config.leaked_tasks, self.bus.emit)
        if any(group.patterns() for group in config.groups):
            yield Discoverer(self.store.census, lines.discover)

    def line(self, queue: str, limit: int, store: Store, perform: Performer) -> QueuePipeline:
        """One queue's stages, not yet running; `store` may be another process's half."""
        return self.lines.line(queue, limit, perform, store)

    def performer(self) -> Performer:
        """What runs this app's jobs."""
        config = self.config
        defaults = Defaults(
            Rules(config.retry, dead=True, backoff=config.backoff), config.timeout,
            compile_server(config.middleware), context(),
        )  # fmt: skip
        store, audience = self.store, self.audience
        return Performer(self._registry, self._executor, store, audience, self.clock, defaults)

    # -- what is heard while it runs

    def _on_trouble(self, queue: str, error: StoreError) -> None:
        """Say once what keeps a queue from being fetched, until the process stops."""
        if (queue, str(error)) not in self._trouble and len(self._trouble) < _TROUBLES:
            self._trouble.add((queue, str(error)))
            self.bus.emit(event.FetchFailed(queue, str(error)))

    def _on_lapse(self) -> None:
        self.bus.emit(event.LeaseLapsed(self.store.ident))

    def _on_lag(self, lag_s: float) -> None:
        self.bus.emit(event.LoopLag(lag_s))

    def _on_orders(self, orders: HeartbeatReply) -> None:
        task = asyncio.create_task(self.lines.reconcile(orders), name="kiqpy:reconcile")
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        if orders.signal:
            self._on_signal(orders.signal)

    # -- control

    async def add_queue(self, queue: str, limit: int) -> None:
        """Work on one more queue."""
        if self._perform is None:
            raise LifecycleError(f"queue {queue!r} is not added: this app only enqueues")
        await self.lines.add(queue, limit, self._perform)

    # -- the way out

    async def quiet(self, on: bool = True) -> None:
        """Claim nothing more until told otherwise; what runs ends in its own time."""
        if on == self.lines.resting:
            return
        await self.lines.rest(on)
        if on and self._up:
            self.bus.emit(event.ProcessQuiet(self.store.ident))

    async def stop(self, grace_s: float) -> int:
        """Let jobs end for `grace_s`, push the rest back, flush the client, leave.

        Returns how many jobs the client could not make durable. Bounded at every step: it ends
        within `grace_s` and some 25 s, whatever jobs, reporters and the store do.
        """
        if self._up:
            self.bus.emit(event.ProcessStopping(self.store.ident, grace_s))
        self.upkeep.halt()
        quieting = asyncio.ensure_future(self.lines.halt())
        await ended({quieting}, _SETTLE_S, self.clock)
        await self._finish(self.upkeep.tasks, 1.0)
        released = await self.lines.end(grace_s, self._late)
        await self._finish({asyncio.ensure_future(self.audience.stop())}, _SETTLE_S)
        self._executor.close()
        unflushed = await self.client.stop(_SETTLE_S)
        await self._finish({quieting, *self._chores}, 0.0)
        if await self._heartbeat.stop():
            await self._finish({asyncio.ensure_future(self._leave())}, _SETTLE_S)
        await self.store.close()
        if self._up:
            self.bus.emit(event.ProcessStopped(self.store.ident, released))
        return unflushed

    def hurry(self) -> None:
        """Let a `stop` that is under way wait for jobs no longer."""
        self._late.set()

    async def _leave(self) -> None:
        try:
            await self.store.leave()
        except StoreError as error:  # the lease then runs out by itself
            self._on_trouble("(leaving)", error)

    async def _finish(self, tasks: set[asyncio.Task[Any]], within_s: float) -> None:
        """Wait a while, then cancel; raises nothing."""
        await ended(tasks, within_s, self.clock)
        for task in tasks:
            task.cancel()
        await ended(tasks, 1.0, self.clock)


def _client_settings(config: Config) -> ClientSettings:
    return ClientSettings(
        flush_interval_s=config.flush_interval,
        confirm_timeout_s=config.confirm_timeout,
        push_timeout_s=config.push_timeout,
        buffer_jobs=config.buffer_limit,
        buffer_bytes=config.buffer_bytes,
    )


def _admission(config: Config, clock: Clock) -> Admission:
    settings = AdmissionSettings(retry=config.retry, max_payload=config.max_payload)
    return Admission(settings, clock, compile_client(config.client_middleware))

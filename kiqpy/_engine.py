"""What runs between `start` and `stop`: everything is started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, final

from kiqpy import event
from kiqpy._beat import Beat, Heartbeat, rss_kb
from kiqpy._flow.tree import ended
from kiqpy._stages.audience import Audience
from kiqpy._stages.consumer import CANCEL_S
from kiqpy._stages.executor import Executor
from kiqpy._stages.line import Line
from kiqpy._stages.perform import Defaults, Performer
from kiqpy._upkeep import Upkeep
from kiqpy.bus import Bus
from kiqpy.client import Client, ClientSettings
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import StoreError
from kiqpy.job import encode
from kiqpy.middleware import compile_server
from kiqpy.policy import Rules
from kiqpy.registry import Registry
from kiqpy.reporter import Reporter
from kiqpy.store import Orders, Pulse, Store

_SETTLE_S: Final = 5.0  # what the reporters, the client and the last settling get at a stop
_TROUBLES: Final = 100  # told of one process; a text that varies must not fill the log
_WORK_SHOWN: Final = 250  # running jobs shown to Sidekiq's Busy page


@final
class Engine:
    """One started app: its store, client, lines, loops and heartbeat."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        reporters: list[Reporter],
        store: Store,
        bus: Bus,
        clock: Clock,
        on_failure: Callable[[BaseException], None],
        on_signal: Callable[[str], None],
        beat: type[Beat] = Heartbeat,
    ) -> None:
        self.config, self.store, self.bus, self.clock = config, store, bus, clock
        self.client = Client(
            store, clock, _client_settings(config), bus.emit, on_failure, bus.handlers
        )
        self.audience = Audience(reporters, bus, clock)
        self.upkeep = Upkeep(config, store, bus, clock)
        self.lines: dict[str, Line] = {}
        self.is_quiet = False
        self._registry, self._on_failure, self._on_signal = registry, on_failure, on_signal
        self._line_tasks: set[asyncio.Task[None]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._trouble: set[tuple[str, str]] = set()
        self._late = asyncio.Event()
        self._started_at = clock.now()
        self._tag = _folder()
        self._up = False
        self._heartbeat: Beat = beat(
            store, clock, config.heartbeat_interval, config.stuck_after,
            self._pulse, self._on_orders, self._on_lapse,
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
                self.upkeep.start()
        except BaseException:
            await self.stop(0.0)
            raise
        self._up = True
        self.bus.emit(event.ProcessStarted(self.store.ident))

    def _start_lines(self) -> None:
        perform = self.performer()
        for queue, limit in self.config.queues.items():
            line = self.lines[queue] = self.line(queue, limit, self.store, perform)
            task = self._spawn(self._line_tasks, line.run(), f"queue:{queue}")
            task.add_done_callback(self._line_ended)

    def line(self, queue: str, limit: int, store: Store, perform: Performer) -> Line:
        """One queue's stages, not yet running; `store` may be another process's half."""
        return Line(queue, limit, store, perform, self.audience, self.clock, self._on_trouble)

    def performer(self) -> Performer:
        """What runs this app's jobs."""
        config = self.config
        defaults = Defaults(
            Rules(config.retry, dead=True, backoff=config.backoff), config.timeout,
            compile_server(config.middleware),
        )  # fmt: skip
        executor = Executor(config.threads, config.processes)
        return Performer(self._registry, executor, self.store, self.audience, self.clock, defaults)

    def _spawn(
        self, where: set[asyncio.Task[None]], run: Coroutine[Any, Any, None], name: str
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(run, name=f"kiqpy:{name}")
        where.add(task)
        return task

    # -- what is heard while it runs

    def _line_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    def _on_trouble(self, queue: str, error: StoreError) -> None:
        """Say once what keeps a queue from being fetched, until the process stops."""
        if (queue, str(error)) not in self._trouble and len(self._trouble) < _TROUBLES:
            self._trouble.add((queue, str(error)))
            self.bus.emit(event.FetchFailed(queue, str(error)))

    def _on_lapse(self) -> None:
        self.bus.emit(event.LeaseLapsed(self.store.ident))

    def _on_orders(self, orders: Orders) -> None:
        for line in self.lines.values():
            task = self._spawn(self._chores, self._reconcile(line, orders), "reconcile")
            task.add_done_callback(self._chores.discard)
        if orders.signal:
            self._on_signal(orders.signal)

    async def _reconcile(self, line: Line, orders: Orders) -> None:
        try:
            await line.reconcile(orders)
        except StoreError as error:  # the next heartbeat brings another chance
            self._on_trouble(line.queue, error)

    def _pulse(self) -> Pulse:
        config, queues = self.config, tuple(self.config.queues)
        runs = [run for line in self.lines.values() for run in line.runs()]
        info: dict[str, Any] = {
            "hostname": socket.gethostname(), "started_at": self._started_at, "pid": os.getpid(),
            "tag": self._tag, "concurrency": sum(config.queues.values()),
            "queues": list(queues), "labels": [], "identity": self.store.ident, "embedded": True,
            "weights": [dict.fromkeys(queues, 0)], "version": "kiqpy",
        }  # fmt: skip
        began = self.clock.now() - self.clock.monotonic()
        work = {
            f"{run.claim.queue}-{run.claim.delivery}": encode({
                "queue": run.claim.queue,
                "payload": run.claim.raw.decode(errors="replace"),
                "run_at": int(began + run.started),
            }).decode()
            for run in runs[:_WORK_SHOWN]
        }  # fmt: skip
        return Pulse(
            encode(info).decode(), sum(config.queues.values()), self.is_quiet, len(runs), work,
            rss_kb(), queues, config.lease_ttl,
        )  # fmt: skip

    # -- the way out

    async def quiet(self) -> None:
        """Claim nothing more; what runs ends in its own time."""
        if not self.is_quiet:
            self.is_quiet = True
            await asyncio.gather(*(line.quiet() for line in self.lines.values()))
            if self._up:
                self.bus.emit(event.ProcessQuiet(self.store.ident))

    async def stop(self, grace_s: float) -> int:
        """Let jobs end for `grace_s`, push the rest back, flush the client, leave.

        Returns how many jobs the client could not make durable. Bounded at every step: it ends
        within `grace_s` and some 25 s, whatever jobs, reporters and the store do.
        """
        self.upkeep.halt()
        quieting = asyncio.ensure_future(self.quiet())
        await ended({quieting}, _SETTLE_S, self.clock)
        await self._finish(self.upkeep.tasks, 1.0)
        released = await self._end_lines(grace_s)
        await self._finish({asyncio.ensure_future(self.audience.stop())}, _SETTLE_S)
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

    async def _end_lines(self, grace_s: float) -> int:
        """Dry the lines out; what outlasts the grace goes back to the heads of its queues."""
        if await ended(self._line_tasks, grace_s, self.clock, self._late):
            return 0
        released = sum(len(line.runs()) for line in self.lines.values())
        await asyncio.gather(*(line.release(CANCEL_S) for line in self.lines.values()))
        await self._finish(self._line_tasks, _SETTLE_S)
        return released

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


def _folder() -> str:
    """The name of the folder we run in, as Sidekiq's tag; it may have been removed."""
    try:
        return Path.cwd().name
    except OSError:
        return ""


def _client_settings(config: Config) -> ClientSettings:
    return ClientSettings(
        config.retry, config.flush_interval, config.confirm_timeout, config.push_timeout,
        config.buffer_limit, config.buffer_bytes, config.max_payload, config.client_middleware,
    )  # fmt: skip

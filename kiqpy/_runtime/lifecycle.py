"""Starts and stops an app's engine: one start at a time, and each start comes to its end.

Theory of operation. The state machine says what may be done now; nothing else is asked. A start
that fails or is cancelled stops what it has started before it raises. A stop is never interrupted:
cancelling it takes the grace away from running jobs, and what must follow is done first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, final

from kiqpy._declare.checks import Duration, duration
from kiqpy._flow.forks import forget_in_child, is_importing_main
from kiqpy._flow.tasks import TaskSet, own_context, whole
from kiqpy._flow.thread import LoopThread
from kiqpy._runtime.assembly import EngineOwner
from kiqpy._runtime.dump import dump
from kiqpy._runtime.state import Call, State, StateMachine
from kiqpy.errors import LifecycleError, StoreUnavailable

if TYPE_CHECKING:
    from kiqpy._runtime.engine import Engine

_log = logging.getLogger("kiqpy")


class EngineBuilder(Protocol):
    """Makes an engine for one start. See `Assembly`."""

    async def build(self, owner: EngineOwner, server: bool | None) -> Engine: ...

    async def close(self) -> None: ...

    def abandon(self) -> None: ...


@final
class Lifecycle:
    """One app's way through its states, again and again: a `Service`.

    `engine`: what runs, from the end of `start` to the beginning of `stop`. `failure`: what broke
    it for good since the last start. `ending` is set when the app broke, when an operator asked it
    to stop, and when it has stopped. `home`: the event loop in which it starts, runs or stops.
    """

    def __init__(self, name: str, builder: EngineBuilder) -> None:
        self.engine: Engine | None = None
        self.failure: BaseException | None = None
        self.ending = asyncio.Event()
        self.home: LoopThread | None = None
        self._name = name
        self._builder = builder
        self._machine = StateMachine(name)
        self._stopping: Engine | None = None
        self._of_parent: Engine | None = None
        self._stopped = asyncio.Event()
        self._tasks = TaskSet()
        self._waiting = 0  # who awaits `wait_stopped`, to stop the app when it returns
        forget_in_child(self._forget)

    @property
    def state(self) -> State:
        """Where the app is now."""
        return self._machine.state

    @property
    def live(self) -> Engine | None:
        """The engine, also while it stops: jobs that still run may enqueue others."""
        return self.engine or self._stopping

    def running(self) -> Engine:
        """The engine, also while it stops; LifecycleError if there is none."""
        if (engine := self.live) is None:
            if self._of_parent is not None:
                raise LifecycleError(
                    f"{self._name} was started before this process was forked: start it here too, "
                    "with `async with app:`, or use enqueue_sync"
                )
            raise LifecycleError(
                f"{self._name} is not started: use `async with app:`, or enqueue_sync in a script; "
                "a web service starts it with lifespan=app.lifespan"
            )
        return engine

    # -- start

    def check_start(self) -> None:
        """LifecycleError if `start` would be refused now."""
        self._leave_closed_loop()
        self._machine.check(Call.START)

    async def start(self, server: bool | None = None) -> None:
        """See `App.start`. `server`: whether to run jobs, if the option is not to decide."""
        if is_importing_main():
            raise LifecycleError(
                f"{self._name} is started while a child process imports this script, and each child"
                ' would start it again: write `if __name__ == "__main__":` before what starts it'
            )
        home = LoopThread()
        self._leave_closed_loop()
        self._machine.take(Call.START)
        self.home = home
        self.failure = None
        self.ending = asyncio.Event()
        self._stopped = asyncio.Event()
        starting = asyncio.create_task(self._started(server), context=own_context())
        try:
            engine = await starting
        except BaseException:
            await whole(self._give_up_start(starting))
            raise
        self.engine = engine
        self._machine.take(Call.STARTED)
        if self.failure is not None:
            self._machine.take(Call.FAIL)

    async def _started(self, server: bool | None) -> Engine:
        engine = await self._builder.build(self, server)
        await engine.start()
        return engine

    async def _give_up_start(self, starting: asyncio.Task[Engine]) -> None:
        try:
            if not starting.cancelled() and starting.exception() is None:  # it was up by then
                await starting.result().stop(0.0)
            await self._builder.close()
        finally:
            self.home = None
            self._machine.take(Call.NOT_STARTED)

    def _leave_closed_loop(self) -> None:
        """Let an app whose event loop was closed without a stop be started anew.

        What it held is rescued when its lease has run out.
        """
        if self.home is None or not self.home.is_closed():
            return
        if (engine := self.live) is not None:
            engine.abandon()
        self._builder.abandon()
        self.engine = self._stopping = self.home = None
        self._machine.take(Call.ABANDON)

    def _forget(self) -> None:
        """In a forked child: what runs is the parent's. The app may be started here, too."""
        if self.home is not None:
            self._of_parent = self.live  # kept: freeing it would close what the parent uses
            self.engine = self._stopping = self.home = None
            self._tasks = TaskSet()
            self._waiting = 0
            self._machine.take(Call.ABANDON)

    # -- stop

    async def stop(self, grace: Duration | None = None) -> None:
        """See `App.stop`. In another event loop than `home`, it is handed over."""
        if self.home is None or self.home.is_current():
            await self._stop_here(grace)
        elif self.home.is_closed():
            self._leave_closed_loop()
            await self._builder.close()
        else:
            await self.home.hand_over(self._stop_here(grace))

    async def _stop_here(self, grace: Duration | None) -> None:
        grace_s = None if grace is None else duration("grace", grace)
        before = self._machine.take(Call.STOP)
        if before is State.STOPPING:
            await self._join_stop(grace_s)
        elif self.engine is not None:
            await self._stop(self.engine, grace_s)

    async def _stop(self, engine: Engine, grace_s: float | None) -> None:
        self.engine = None
        self._stopping = engine
        if grace_s is None:
            grace_s = engine.config.shutdown_timeout
        unflushed = await whole(self._wind_down(engine, grace_s), on_cancel=engine.hurry)
        if unflushed:
            self._report_unflushed(unflushed, engine.config.on_unflushed)

    async def _wind_down(self, engine: Engine, grace_s: float) -> int:
        try:
            unflushed = await engine.stop(grace_s)
            await self._builder.close()
        finally:
            self._stopping = self.home = None
            self._machine.take(Call.STOPPED)
            self._stopped.set()
            self.ending.set()
        return unflushed

    async def _join_stop(self, grace_s: float | None) -> None:
        """Another call stops the app already: shorten its grace, if asked to, and wait for it."""
        engine = self._stopping
        assert engine is not None
        if grace_s is not None:
            engine.clock.call_later(grace_s, engine.hurry)
        await whole(self._stopped.wait(), on_cancel=engine.hurry)

    def _report_unflushed(self, jobs: int, how: str) -> None:
        message = f"{jobs} accepted jobs could not be made durable"
        if how == "raise":
            raise StoreUnavailable(message)
        _log.error("%s: %s", self._name, message)

    # -- what ends it

    async def wait_stopped(self) -> None:
        """See `App.wait_stopped`."""
        self.running()
        self._waiting += 1
        try:
            await self.ending.wait()
        finally:
            self._waiting -= 1
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what broke the app, if anything did."""
        if self.failure is not None:
            raise self.failure

    def on_failure(self, error: BaseException) -> None:
        """See `EngineOwner`: log it, and wake `wait_stopped`, which raises it."""
        _log.critical("%s is broken and must be stopped: %r", self._name, error)
        self.failure = self.failure or error
        self._machine.take(Call.FAIL)
        self.ending.set()

    def on_signal(self, name: str) -> None:
        """See `EngineOwner`. Sent by `admin.signal`, or by Sidekiq's pages and its API.

        TSTP quiets the app, CONT ends that, TTIN dumps all stacks. TERM sets `ending`, and quiets
        the app if nobody waits for that who would stop it.
        """
        if name == "TTIN":
            dump()
        elif name in ("TSTP", "CONT") and self.engine is not None:
            self._tasks.start(self.engine.quiet(name == "TSTP"), name="kiqpy:quiet")
        elif name == "TERM":
            if self.engine is not None and not self._waiting:
                self._tasks.start(self._quiet_for_good(self.engine), name="kiqpy:quiet")
            self.ending.set()

    async def _quiet_for_good(self, engine: Engine) -> None:
        _log.warning(
            "an operator told %s to stop: it claims no more jobs; enqueueing goes on. "
            "`await app.wait_stopped()` returns when that happens; then leave `async with`",
            self._name,
        )
        await engine.quiet()

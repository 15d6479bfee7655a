"""Builds the engine of an app, anew at each start, in the environment where it is to run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, final

from kiqpy._flow.forks import forget_in_child
from kiqpy._reporting.bus import Bus
from kiqpy._runtime.declared import DeclaredOptions, Init
from kiqpy._runtime.environment import DeclaredApp, Environment, test_mode
from kiqpy.clock import Clock
from kiqpy.config import Config

if TYPE_CHECKING:
    from kiqpy._extensions.extension import MakeExtension
    from kiqpy._runtime.engine import Engine, EngineParts

ChooseEnvironment = Callable[[str | None, Clock], Environment]  # of a test mode, or None


class EngineOwner(Protocol):
    """Receives what an engine cannot decide by itself."""

    def on_failure(self, error: BaseException) -> None:
        """A stage of kiqpy failed several times and is not restarted again."""
        ...

    def on_signal(self, name: str) -> None:
        """An operator sent a signal through Redis: `TSTP`, `CONT`, `TERM` or `TTIN`."""
        ...


class AppHooks(NamedTuple):
    """How an app takes part in its start. `app`: the object that test modes are set for."""

    app: DeclaredApp
    init: Init
    choose_environment: ChooseEnvironment
    extensions: Sequence[MakeExtension]  # besides those that every app has


@final
class Assembly:
    """Reads the options, chooses the environment, and builds the engine in it."""

    def __init__(
        self, declaration: DeclaredOptions, hooks: AppHooks, bus: Bus, clock: Clock
    ) -> None:
        self._declaration = declaration
        self._hooks = hooks
        self._bus = bus
        self._clock = clock
        self._environment: Environment | None = None
        self._abandoned: list[Environment] = []
        self._of_parent: list[Environment] = []
        forget_in_child(self._forget)

    @contextmanager
    def placed(self, environment: Environment, clock: Clock) -> Generator[None]:
        """Within the block, build in this environment and on this clock."""
        own, self._clock, self._environment = self._clock, clock, environment
        try:
            yield
        finally:
            self._clock = own

    async def build(self, owner: EngineOwner, server: bool | None) -> Engine:
        """An engine that is not started yet; `server` goes before the option. Then `close`."""
        from kiqpy._runtime.engine import Engine  # with redis-py: only apps that start pay for it

        await self._close_abandoned()
        config = await self._configured(server)
        if self._environment is None:
            mode = self._mode() or config.test_mode
            self._environment = self._hooks.choose_environment(mode, self._clock)
        reporters = [r() if isinstance(r, type) else r for r in config.reporters]

        def make(config: Config, parts: EngineParts) -> Engine:
            return Engine(
                config=config,
                registry=self._declaration.registry,
                reporters=reporters,
                parts=parts,
                bus=self._bus,
                clock=self._clock,
                on_failure=owner.on_failure,
                on_signal=owner.on_signal,
                extensions=self._hooks.extensions,
            )

        return await self._environment.build(config, make)

    async def _configured(self, server: bool | None) -> Config:
        in_test = self._environment is not None or self._mode() is not None
        config = await self._declaration.read(self._hooks.init, in_test=in_test)
        return config if server is None else config.replace(server=server)

    def _mode(self) -> str | None:
        return test_mode(self._hooks.app)

    async def close(self) -> None:
        """Free what `build` took. The engine has stopped, or was never started. Idempotent."""
        await self._close_abandoned()
        environment, self._environment = self._environment, None
        if environment is not None:
            await environment.close()

    def abandon(self) -> None:
        """Let the next `build` or `close` free what `build` took: its event loop was closed."""
        environment, self._environment = self._environment, None
        if environment is not None:
            self._abandoned.append(environment)

    def _forget(self) -> None:
        """In a forked child: keep what `build` took, for the parent uses it, and never close it."""
        self.abandon()
        self._of_parent += self._abandoned
        self._abandoned.clear()

    async def _close_abandoned(self) -> None:
        while self._abandoned:
            await self._abandoned.pop().close()

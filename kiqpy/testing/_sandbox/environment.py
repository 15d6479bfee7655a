"""Environments without a server: a store in memory, and a client that records what is enqueued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast, final
from weakref import WeakKeyDictionary

from kiqpy._intake.protocol import JobClient
from kiqpy._runtime.address import new_ident
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.environment import DeclaredApp, Environment, MakeEngine, MakeStore, register
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob
from kiqpy.store._backend import Backend
from kiqpy.store._session import Session
from kiqpy.store.census import Place
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing._sandbox.client import Push, RecordingClient
from kiqpy.testing._sandbox.heartbeat import TimerHeartbeat
from kiqpy.testing._sandbox.inline import InlineRunner
from kiqpy.testing._sandbox.recorder import EnqueueRecorder
from kiqpy.testing._sandbox.scope import Mode, here
from kiqpy.testing._sandbox.server import PrivateServer

_recorders: Final[WeakKeyDictionary[DeclaredApp, EnqueueRecorder]] = WeakKeyDictionary()


def recorder_of(app: DeclaredApp) -> EnqueueRecorder:
    """The record of what this app has enqueued in test modes."""
    recorder = _recorders.get(app)
    if recorder is None:
        recorder = _recorders[app] = EnqueueRecorder(app.registry)
    return recorder


def memory_backend(server: MemoryServer, config: Config, ident: str) -> Backend:
    """A backend in memory, with the options of the app."""
    backend = MemoryBackend(
        server, ident, dead_limit=config.dead_limit, dead_timeout_s=config.dead_timeout
    )
    # A cast, because pyright tells coroutines of decorated methods from those of plain ones.
    return cast("Backend", backend)


def places(config: Config) -> Sequence[Place]:
    """The sets whose due jobs this process promotes."""
    return cast("Sequence[Place]", config.schedulers)


@final
class Recording:
    """Records what an engine's client takes in; in scopes that ask for it, runs it inline."""

    def __init__(
        self, app: DeclaredApp, server: MemoryServer, clock: Clock, mode: Mode = "sandbox"
    ) -> None:
        self._app = app
        self._recorder = recorder_of(app)
        self._server = server
        self._clock = clock
        self._mode: Mode = mode
        self._inline: InlineRunner | None = None

    def wrap_client(self, client: JobClient) -> JobClient:
        """The client of the engine, behind one that records."""
        return RecordingClient(client, self._recorder, self._clock, self._mode_here, self._run)

    def _mode_here(self) -> Mode:
        return here().mode(self._app) or self._mode

    async def _run(self, outgoing: OutgoingJob, push: Push) -> Receipt:
        assert self._inline is not None
        return await self._inline(outgoing, push)

    def open(self, engine: Engine) -> None:
        """The engine was built."""
        self._inline = InlineRunner(engine, self._server)
        self._recorder.live = self._mode

    def close(self) -> None:
        """The engine has stopped. The record stays."""
        self._recorder.live = None
        if self._inline is not None:
            self._inline.close()


@final
class SandboxEnvironment:
    """For `test_mode`: the app takes jobs in and runs none by itself."""

    def __init__(self, app: DeclaredApp, clock: Clock, mode: Mode) -> None:
        self._clock = clock
        self._server = MemoryServer(clock)
        self._recording = Recording(app, self._server, clock, mode)

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        """An engine that only takes jobs in."""
        ident = new_ident(config, self._clock)
        backend = memory_backend(self._server, config, ident)
        parts = EngineParts(
            store=Session(backend, self._clock, places(config)),
            heartbeat=TimerHeartbeat,
            wrap_client=self._recording.wrap_client,
        )
        engine = make(replace(config, server=False), parts)
        self._recording.open(engine)
        return engine

    async def close(self) -> None:
        """See `Environment.close`."""
        self._recording.close()


@final
class PrivateServerEnvironment:
    """For `test_mode="redis"`: all as in production, on a server of this app's own."""

    def __init__(self, app: DeclaredApp, make_store: MakeStore) -> None:
        self._recorder = recorder_of(app)
        self._make_store = make_store
        self._server = PrivateServer()

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        """See `Environment.build`."""
        await self._server.start()
        self._recorder.live = "redis"
        return make(config, EngineParts(self._make_store(self._server.url, config)))

    async def close(self) -> None:
        """Stop the server and remove its folder."""
        self._recorder.live = None
        await self._server.stop()


@final
class _RegisteredModes:
    def mode(self, app: DeclaredApp) -> str | None:
        return here().mode(app)

    def environment(
        self, app: DeclaredApp, mode: str, clock: Clock, make_store: MakeStore
    ) -> Environment:
        if mode == "redis":
            return PrivateServerEnvironment(app, make_store)
        return SandboxEnvironment(app, clock, cast("Mode", mode))


def register_modes() -> None:
    """Let apps start in these modes. Done at the first import; doing it again changes nothing."""
    register(_RegisteredModes())


register_modes()

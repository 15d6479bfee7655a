"""Chooses where an app runs: on a Redis server, or on what a test puts in a server's place.

Production knows `Environment` only. `kiqpy.testing` registers its stand-ins here when it is
imported; the app imports it when a test mode is asked for, and never otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, final

from kiqpy._registry import Registry
from kiqpy._runtime.address import new_ident, resolve
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.errors import LifecycleError
from kiqpy.store import Store
from kiqpy.store._session import Session
from kiqpy.store.census import Place

if TYPE_CHECKING:
    from kiqpy._runtime.engine import Engine, EngineParts
    from kiqpy.store.embedded.server import EmbeddedServer

MakeEngine: TypeAlias = "Callable[[Config, EngineParts], Engine]"
MakeStore = Callable[[str, Config], Store]


class DeclaredApp(Protocol):
    """What is asked of an app before it runs: who it is, and what it declares."""

    @property
    def name(self) -> str: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def started(self) -> bool: ...


class Environment(Protocol):
    """Where one started app runs. Closed after the stop, or when the start has failed."""

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        """An engine that is not started yet, on this environment's store."""
        ...

    async def close(self) -> None:
        """Free what `build` took; the engine has stopped. Idempotent."""
        ...


class TestModes(Protocol):
    """What `kiqpy.testing` registers: environments that need no server."""

    def mode(self, app: DeclaredApp) -> str | None:
        """The test mode that the running test has set for this app."""
        ...

    def environment(
        self, app: DeclaredApp, mode: str, clock: Clock, make_store: MakeStore
    ) -> Environment: ...


_registered: list[TestModes] = []


def register(modes: TestModes) -> None:
    """Use these test modes from now on."""
    _registered[:] = [modes]


def test_mode(app: DeclaredApp) -> str | None:
    """The test mode that the running test has set for this app, if any."""
    return _registered[0].mode(app) if _registered else None


def choose_environment(app: DeclaredApp, mode: str | None, clock: Clock) -> Environment:
    """A server without a test mode; else what was registered for that mode."""
    make_store = partial(redis_store, clock=clock)
    if mode is None:
        return ServerEnvironment(make_store)
    if not _registered:
        raise LifecycleError(f"test_mode={mode!r} needs kiqpy.testing, which is not imported")
    return _registered[0].environment(app, mode, clock, make_store)


def redis_store(url: str, config: Config, clock: Clock) -> Store:
    """A process's half of the store at `url`."""
    from kiqpy.store.redis.backend import RedisBackend  # redis-py: only apps that start pay for it

    backend = RedisBackend(
        url,
        new_ident(config, clock),
        namespace=config.namespace,
        dead_limit=config.dead_limit,
        dead_timeout_s=config.dead_timeout,
        pool_size=config.pool_size,
        suspicion_s=config.suspicion,
        poll_s=config.fetch_interval,
        options=config.redis_options,
        clock=clock,
    )
    return Session(backend, clock, cast("tuple[Place, ...]", config.schedulers))


@final
class ServerEnvironment:
    """The server that the options name, or the embedded one."""

    def __init__(self, make_store: MakeStore) -> None:
        self._make_store = make_store
        self._embedded: EmbeddedServer | None = None

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        from kiqpy._runtime.engine import EngineParts  # as above

        url, self._embedded = await resolve(config)
        return make(config, EngineParts(self._make_store(url, config)))

    async def close(self) -> None:
        server, self._embedded = self._embedded, None
        if server is not None:
            await server.stop()

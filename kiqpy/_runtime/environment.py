"""What a started app stands on: a server out there, or what stands in for one in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, final

from kiqpy._runtime.address import new_ident, resolve
from kiqpy._runtime.engine import Engine
from kiqpy._runtime.heartbeat import HeartbeatSender, HeartbeatThread
from kiqpy._sandbox.ledger import Ledger
from kiqpy._sandbox.scope import Mode
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.store import Store
from kiqpy.store._session import Session
from kiqpy.store.census import Place
from kiqpy.store.embedded.server import EmbeddedServer
from kiqpy.store.redis.backend import RedisBackend

Make = Callable[[Config, Store, type[HeartbeatSender]], Engine]


class Ground(Protocol):
    """Made for one start, and closed after the stop or when the start has failed."""

    async def build(self, config: Config, make: Make) -> Engine: ...

    async def close(self) -> None: ...


def ground(
    mode: Mode | None, ledger: Ledger, clock: Clock, store: Callable[[str, Config], Store]
) -> Ground:
    """What an app in this test mode stands on; None: as in production, on `store(url, config)`."""
    if mode in ("sandbox", "fake", "inline"):
        from kiqpy._sandbox.stand import Sandbox  # only tests pay for it

        return Sandbox(ledger, clock, mode)
    return ServerGround(ledger, store, private=mode == "redis")


def redis_store(url: str, config: Config, clock: Clock) -> Store:
    """A process's half of the store at `url`."""
    backend = RedisBackend(
        url, new_ident(config, clock), namespace=config.namespace,
        dead_limit=config.dead_limit, dead_timeout_s=config.dead_timeout,
        pool_size=config.pool_size, suspicion_s=config.suspicion, poll_s=config.fetch_interval,
        options=config.redis_options, clock=clock,
    )  # fmt: skip
    return Session(backend, clock, cast("tuple[Place, ...]", config.schedulers))


@final
class ServerGround:
    """The server that the options name, or the embedded one; `private`: one of its own."""

    def __init__(
        self, ledger: Ledger, store: Callable[[str, Config], Store], private: bool
    ) -> None:
        self._ledger, self._store, self._private = ledger, store, private
        self._embedded: EmbeddedServer | None = None

    async def build(self, config: Config, make: Make) -> Engine:
        self._ledger.live = "redis"
        return make(config, self._store(await self._address(config), config), HeartbeatThread)

    async def _address(self, config: Config) -> str:
        if not self._private:
            url, self._embedded = await resolve(config)
            return url
        from kiqpy._sandbox.server import PrivateServer  # only tests pay for it

        self._embedded = PrivateServer()
        await self._embedded.start()
        return self._embedded.url

    async def close(self) -> None:
        self._ledger.live = None
        server, self._embedded = self._embedded, None
        if server is not None:
            await server.stop()

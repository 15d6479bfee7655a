"""What a started app stands on instead of Redis: a store in memory, and a client that notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast, final

from kiqpy._intake.client import Client
from kiqpy._loops.beat import TimerHeartbeat
from kiqpy._runtime.address import new_ident
from kiqpy._runtime.engine import Engine
from kiqpy._sandbox.inline import Inline
from kiqpy._sandbox.intake import SandboxClient
from kiqpy._sandbox.ledger import Ledger
from kiqpy._sandbox.scope import Mode, here
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.store._session import Backend, Session
from kiqpy.store.census import Place
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer

if TYPE_CHECKING:
    from kiqpy._runtime.environment import Make


def session(server: MemoryServer, config: Config, ident: str, clock: Clock) -> Session:
    """A process's half of a store in memory."""
    backend = MemoryBackend(
        server, ident, dead_limit=config.dead_limit, dead_timeout_s=config.dead_timeout
    )
    places = cast("Sequence[Place]", config.schedulers)
    # A cast, because pyright tells coroutines of decorated methods from those of plain ones.
    return Session(cast("Backend", backend), clock, places)


def noting(engine: Engine, ledger: Ledger, server: MemoryServer, mode: Mode) -> Inline:
    """Give the engine a client that notes; in scopes that ask for it, it runs jobs inline."""
    inline = Inline(engine, server)
    client = SandboxClient(
        engine.client, ledger, engine.clock, lambda: here().mode(ledger) or mode, inline
    )
    engine.client = cast("Client", client)
    return inline


@final
class Sandbox:
    """For `test_mode`: the app takes jobs in and runs none by itself."""

    def __init__(self, ledger: Ledger, clock: Clock, mode: Mode) -> None:
        self._ledger, self._clock = ledger, clock
        self._mode: Mode = mode
        self._inline: Inline | None = None

    async def build(self, config: Config, make: Make) -> Engine:
        """The engine of an app that only takes jobs in."""
        server = MemoryServer(self._clock)
        store = session(server, config, new_ident(config, self._clock), self._clock)
        engine = make(replace(config, server=False), store, TimerHeartbeat)
        self._inline = noting(engine, self._ledger, server, self._mode)
        self._ledger.live = self._mode
        return engine

    async def close(self) -> None:
        """The engine has stopped. What was noted stays."""
        self._ledger.live = None
        if self._inline is not None:
            self._inline.close()

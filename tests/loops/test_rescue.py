"""The rescuer keeps the list of processes, too: who has neither lease nor hash is off it."""

from __future__ import annotations

import asyncio

import pytest

from kiqpy._flow.loop import LoopRunner
from kiqpy._loops.rescue import Rescuer
from kiqpy.store import Heartbeat
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio


async def test_a_killed_process_does_not_stay_on_the_list_for_ever() -> None:
    clock = FakeClock()
    server = MemoryServer(clock)
    me, killed, slow = (Session(MemoryBackend(server, i), clock) for i in ("me", "killed", "slow"))
    killed.beat(_heartbeat(lease_s=30.0))
    slow.beat(_heartbeat(lease_s=300.0))  # its hash is gone long before its lease
    rescuer = Rescuer(me, me.census.prune, 10.0, clock, lambda _event: None)
    runner = LoopRunner(rescuer, clock, _unheard)
    running = asyncio.create_task(runner.run())
    await rest()
    assert set(server.processes) == {"killed", "slow"}
    await clock.advance(130)
    assert set(server.processes) == {"slow"}
    await clock.advance(300)
    assert set(server.processes) == set()
    runner.stop()
    await running


def _heartbeat(lease_s: float) -> Heartbeat:
    return Heartbeat("{}", 5, False, 0, {}, 0, ("q",), lease_s)


def _unheard(name: str, error: Exception) -> None:
    raise AssertionError(f"{name}: {error!r}")

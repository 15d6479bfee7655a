"""The lag of the event loop is measured by the heartbeat, and reported once."""

from __future__ import annotations

import threading
import time

import pytest

from kiqpy._runtime.heartbeat import HeartbeatSettings, HeartbeatThread
from kiqpy.clock import SystemClock
from kiqpy.store import Heartbeat, HeartbeatReply
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from tests.eventually import eventually

pytestmark = pytest.mark.anyio

PULSE = Heartbeat("", 0, False, 0, {}, 0, ("q",), 30.0)


class Patient:
    """A heart that beats twenty times a second, and the lags that it tells."""

    def __init__(self) -> None:
        clock = SystemClock()
        store = Session(MemoryBackend(MemoryServer(clock), "me:1:a"), clock)
        self.lags: list[float] = []
        self.threads: set[int] = set()
        self.beats = 0
        self.heart = HeartbeatThread(store, clock, HeartbeatSettings(interval_s=0.05), self)

    # -- HeartbeatOwner

    def heartbeat(self) -> Heartbeat:
        return PULSE

    def on_reply(self, _reply: HeartbeatReply) -> None:
        self.beats += 1

    def on_lease_lost(self) -> None: ...

    def on_lag(self, lag_s: float) -> None:
        self.lags.append(lag_s)
        self.threads.add(threading.get_ident())

    async def blocked_for(self, seconds: float) -> list[float]:
        """The lags told of a loop that is blocked for so long, then runs on for a few beats."""
        await self.heart.start()
        try:
            await eventually(lambda: self.beats >= 2, "two beats")
            self.lags.clear()
            time.sleep(seconds)  # noqa: ASYNC251  # what is to be measured
            seen = self.beats
            await eventually(lambda: self.beats >= seen + 4, "four more beats")
        finally:
            await self.heart.stop()
        return self.lags


async def test_a_block_of_many_beats_is_told_once_with_its_length() -> None:
    told: list[list[float]] = []
    for _ in range(3):  # the machine may block it, too
        patient = Patient()
        told.append(await patient.blocked_for(0.8))
        assert patient.threads == {threading.get_ident()}
        if len(told[-1]) == 1 and 0.6 < told[-1][0] < 1.2:
            return
    raise AssertionError(told)


async def test_a_loop_that_answers_soon_enough_is_not_told_of() -> None:
    told = [await Patient().blocked_for(0.1) for _ in range(3)]
    assert [] in told

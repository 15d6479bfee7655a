"""The lag of the event loop is measured by the heartbeat, and reported once."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

import kiqpy
from kiqpy import App, Worker
from kiqpy._rules.culprit import culprit
from kiqpy._runtime.heartbeat import HeartbeatSettings, HeartbeatThread
from kiqpy.clock import SystemClock
from kiqpy.event import LoopLag
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
        self.told: list[LoopLag] = []
        self.threads: set[int] = set()
        self.beats = 0
        self.heart = HeartbeatThread(store, clock, HeartbeatSettings(interval_s=0.05), self)

    # -- HeartbeatOwner

    def heartbeat(self) -> Heartbeat:
        return PULSE

    def on_reply(self, _reply: HeartbeatReply) -> None:
        self.beats += 1

    def on_lease_lost(self) -> None: ...

    def on_lag(self, lag: LoopLag) -> None:
        self.told.append(lag)
        self.lags.append(lag.lag_s)
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


# -- who it was


def block(event: threading.Event) -> None:
    event.wait(30)


class Export(Worker):
    """Blocks the loop until the heartbeat has looked for a while."""

    async def perform(self, secret: str) -> None:
        assert secret
        block(released)


released = threading.Event()


class Jobs(App):
    workers = [Export]
    heartbeat_interval = 0.1


async def lag_of(app: App) -> LoopLag:
    """What is told of a job that blocks the loop for about a second."""
    lags: list[LoopLag] = []
    app.attach("loop.lag", lags.append)
    released.clear()
    threading.Timer(1.0, released.set).start()
    await app.enqueue(Export.new("hunter2"))
    await eventually(lambda: any(lag.by for lag in lags), "a lag with a culprit")
    return next(lag for lag in lags if lag.by)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_job_that_blocks_is_named_with_its_line(loop: str, redis_url: str) -> None:
    factory = None if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop

    async def main() -> LoopLag:
        async with Jobs(redis_url=redis_url) as app:
            return await lag_of(app)

    with asyncio.Runner(loop_factory=factory) as runner:
        lag = runner.run(main())
    assert lag.by == "Export.perform"
    lines = Path(__file__).read_text().splitlines()
    assert lag.at == f"{__file__}:{lines.index('        block(released)') + 1}"
    assert lag.stack is not None
    assert "in block" in lag.stack
    assert "kiqpy/_stages" not in lag.stack
    assert "hunter2" not in repr(lag)


async def test_health_and_the_log_line_name_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Jobs(redis_url=redis_url) as app:
        await lag_of(app)
        health = await app.health()
    (check,) = health.failed()
    assert " by Export.perform at " in check.why
    (line,) = [r.getMessage() for r in caplog.records if "Export.perform" in r.getMessage()][:1]
    assert "loop.lag" in line
    assert "hunter2" not in line


async def test_a_block_of_no_job_names_the_code_that_blocks() -> None:
    patient = Patient()
    await patient.blocked_for(1.0)
    named = [lag for lag in patient.told if lag.by]
    assert [lag.by for lag in named] == ["Patient.blocked_for"]


FILE = __file__
OURS = str(Path(kiqpy.__file__).parent / "_stages" / "perform.py")


@pytest.mark.parametrize(
    ("step", "by"),
    [
        ([], None),
        ([(asyncio.__file__, 1, "select")], None),
        ([(OURS, 5, "perform")], None),
        ([(OURS, 5, "perform"), (FILE, 3, "job"), (FILE, 9, "inner")], "job"),
        ([(OURS, 5, "perform"), (FILE, 3, "job"), (OURS, 9, "enqueue")], "job"),
        ([(FILE, 3, "view"), (asyncio.__file__, 1, "x"), (FILE, 9, "inner")], "inner"),
    ],
)
def test_the_culprit_of_a_step(step: list[tuple[str, int, str]], by: str | None) -> None:
    found = culprit(step)
    assert (found and found.by) == by

"""`async with app.testing() as t`: an app on a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final, final

from kiqpy._declare.checks import duration, instant
from kiqpy._reporting.bus import Bus
from kiqpy._runtime.address import new_ident
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.environment import DeclaredApp, MakeEngine
from kiqpy.config import Config
from kiqpy.errors import LifecycleError
from kiqpy.job import Job, decode
from kiqpy.store.census import Place
from kiqpy.store.memory.backend import MemoryServer
from kiqpy.testing._fakeclock import FakeClock, rest
from kiqpy.testing._sandbox.environment import Recording, memory_backend, places, recorder_of
from kiqpy.testing._sandbox.gate import GatedSession
from kiqpy.testing._sandbox.heartbeat import TimerHeartbeat
from kiqpy.testing._sandbox.hourly import HourlyLoop, hourly
from kiqpy.testing._sandbox.tally import Drained, DrainTally
from kiqpy.worker import AnyWorker

_MAX_JOBS: Final = 10_000
_ULP_S: Final = 1e-6  # more than the rounding error of an epoch second


@final
class AppTester:
    """An app under test. Nothing runs until `drain`, and no time passes until `tick`."""

    def __init__(self, app: DeclaredApp, bus: Bus, now: datetime | float | None = None) -> None:
        self.clock = FakeClock() if now is None else FakeClock(instant("now", now))
        self._bus = bus
        self._recorder = recorder_of(app)
        self._server = MemoryServer(self.clock)
        self._recording = Recording(app, self._server, self.clock)
        self._tally = DrainTally()
        self._loop: asyncio.AbstractEventLoop
        self._session: GatedSession
        self._engine: Engine

    # -- for the app's lifecycle

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        """The engine under test: all of it, on a store whose jobs are held back."""
        self._loop = asyncio.get_running_loop()
        config = hourly(config)
        backend = memory_backend(self._server, config, new_ident(config, self.clock))
        self._session = GatedSession(backend, self.clock, places(config))
        parts = EngineParts(
            store=self._session,
            heartbeat=TimerHeartbeat,
            wrap_client=self._recording.wrap_client,
            slow_down=HourlyLoop,
        )
        self._engine = make(config, parts)
        self._recorder.clear()
        self._bus.attach("job.*", self._tally.count)
        self._recording.open(self._engine)
        return self._engine

    async def conclude(self, stop: Coroutine[Any, Any, None]) -> None:
        """Let the app stop; what is bounded by time must see time pass."""
        stopping = asyncio.ensure_future(stop)
        await rest()
        while not stopping.done():
            await self.clock.advance(1.0)
        await stopping

    async def close(self) -> None:
        """See `Environment.close`."""
        self._bus.detach(self._tally.count)
        self._recording.close()

    # -- what was enqueued

    @property
    def enqueued(self) -> list[Job]:
        """Every job enqueued so far, in order, whether or not it has run since."""
        return self.jobs()

    def jobs(
        self, worker: AnyWorker | str | None = None, args: object = None, **subset: Any
    ) -> list[Job]:
        """Those of them that fit; see `assert_enqueued`."""
        return self._recorder.jobs(worker, args, "shared", **subset)

    def assert_enqueued(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        count: int | None = None,
        **subset: Any,
    ) -> Job:
        """Return the (first) job enqueued so far that fits; exactly `count` of them, if given.

        Only what is named is compared: `args` (a list, or a dict of parameter names and values),
        `in_`, `at`, and any payload field, `queue="mail"`; of dicts, the keys that are named.
        AssertionError says what was enqueued, and which job comes nearest.
        """
        return self._recorder.assert_enqueued(worker, args, count, "shared", **subset)

    def refute_enqueued(
        self, worker: AnyWorker | str | None = None, args: object = None, **subset: Any
    ) -> None:
        """AssertionError, with the jobs, if any that was enqueued so far fits."""
        self._recorder.refute_enqueued(worker, args, "shared", **subset)

    # -- what there is

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC; `at=t.now + timedelta(hours=1)`."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    @property
    def queued(self) -> list[Job]:
        """What waits in queues to be run, oldest first, queue by queue."""
        return [decode(raw) for jobs in self._server.queues.values() for raw in reversed(jobs)]

    @property
    def scheduled(self) -> list[Job]:
        """What waits for its time, soonest first; `job.at_s` is when."""
        return self._at_rest("schedule")

    @property
    def retries(self) -> list[Job]:
        """What failed and waits for its next try, soonest first; `job.at_s` is when."""
        return self._at_rest("retry")

    @property
    def dead(self) -> list[Job]:
        """What failed for good, oldest first."""
        return self._at_rest("dead")

    def _at_rest(self, place: Place) -> list[Job]:
        members = self._server.places[place]
        jobs: list[Job] = []
        for score, raw in members.slice(0, len(members)):
            job = decode(raw)
            job.at_s = score
            jobs.append(job)
        return jobs

    # -- what happens

    async def drain(
        self,
        *,
        with_scheduled: bool = False,
        limit: int | None = None,
        raise_errors: bool = False,
        timeout: float = 30.0,
    ) -> Drained:
        """Run what is queued, and what that enqueues, until the queues are empty.

        Failures go where they would go, to `t.retries` or `t.dead`; `raise_errors=True` raises the
        first one. `with_scheduled`: let time pass until schedule and retry set are empty, too.
        `limit`: run no more jobs than that. Raises TimeoutError, naming the jobs, if they take
        longer than `timeout` seconds of real time, and RuntimeError after 10,000 jobs.
        """
        self._check_loop()
        self._tally.begin()
        late = asyncio.timeout(timeout)
        try:
            async with late:
                await self._drain(limit, with_scheduled)
        except TimeoutError:
            if late.expired():
                raise TimeoutError(self._stuck(timeout)) from None
            raise
        finally:
            await self._session.shut()
        if raise_errors and self._tally.error is not None:
            raise self._tally.error
        return self._tally.drained()

    async def _drain(self, limit: int | None, with_scheduled: bool) -> None:
        left = _MAX_JOBS if limit is None else limit
        while True:
            left = await self._run(left)
            if left <= 0:
                break
            due = self._next_due() if with_scheduled else None
            if due is None:
                return
            await self._pass(max(0.0, due - self.clock.now()))
        if limit is None and self._waiting():
            raise RuntimeError(
                f"{_MAX_JOBS:,} jobs were run and more wait: does a job enqueue itself? "
                "Give limit=..."
            )

    async def _run(self, left: int) -> int:
        """Until nothing more can be run; how many more jobs may be."""
        await self._engine.client.flush()
        self._engine.loops.wake()  # there may be a queue that a pattern stands for
        await rest()
        self._session.admit(left)
        await self._engine.pipelines.wake()  # one that was paused may be so no longer
        while True:
            self._session.settled.clear()
            await rest()
            if not self._held() and (self._session.left <= 0 or not self._waiting()):
                break
            await self._session.settled.wait()  # real work is under way, a thread or a socket
        left = self._session.left
        await self._session.shut()
        await rest()
        return left

    def _waiting(self) -> bool:
        quiet = self._engine.pipelines.is_quiet
        queues = set[str]() if quiet else self._session.asked - self._server.paused
        return any(self._server.queues[queue] for queue in queues)

    def _held(self) -> bool:
        ident = self._session.ident
        return any(self._server.privates[ident, queue] for queue in self._session.asked)

    def _next_due(self) -> float | None:
        firsts = [self._server.places[place].slice(0, 1) for place in ("schedule", "retry")]
        return min((found[0][0] for found in firsts if found), default=None)

    def _stuck(self, timeout: float) -> str:
        jobs = [run.job for run in self._engine.pipelines.runs() if run.job is not None]
        names = ", ".join(f"{job.class_}({', '.join(map(repr, job.args))})" for job in jobs)
        return f"after {timeout:g} s these jobs still run: {names or '(none: the queue is stuck)'}"

    async def tick(self, seconds: Any) -> None:
        """Let virtual time pass: what becomes due is moved to its queue, periodic jobs come.

        They are not run; `drain` does that. Takes seconds or a timedelta.
        """
        self._check_loop()
        await self._pass(duration("seconds", seconds))

    def _check_loop(self) -> None:
        """LifecycleError instead of a wait for a loop that stands still."""
        if asyncio.get_running_loop() is not self._loop:
            raise LifecycleError(
                "the app under test was started in another event loop than this test runs in: "
                "let one plugin run both, anyio's or pytest-asyncio, with one loop_scope"
            )

    async def _pass(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        self._engine.loops.wake()  # the loops look again at what comes next
        await self.clock.advance(seconds)
        while self.clock.now() < until:
            await self.clock.advance(_ULP_S)
        self._engine.loops.wake()
        await rest()
        self._record_new()

    def _record_new(self) -> None:
        """Jobs that came by no client: periodic ones."""
        for job in (*self.queued, *self.scheduled):
            self._recorder.add(job, self.clock.now())

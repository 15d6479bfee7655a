"""One start of the demo: enqueue the files that are left of the run, and watch their jobs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple, final

from kiqpy.app import App
from kiqpy.clock import SystemClock
from kiqpy.demo.progress import FileTally, ProgressLine, reason
from kiqpy.demo.results import DemoRun, Results
from kiqpy.demo.worker import parse_file
from kiqpy.job import Job
from kiqpy.store import Store
from kiqpy.store.census import Census, Entry, Place

PROCESSES: Final = 2
_CLAIMS: Final = 2 * PROCESSES  # so that a child that has finished gets its next file at once
_GRACE_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.1
_IDLE_S: Final = 5.0  # with files left and no job running: enqueue missing jobs again
_JOBS_PER_PAGE: Final = 1000


class StartResult(NamedTuple):
    """What one start has done; `files` were parsed or failed in it."""

    finished: bool
    files: int
    seconds: float
    rescued: int
    late_ms: float  # the worst delay of the event loop


@final
class Demo:
    """Continues a run until it is finished or a signal comes."""

    def __init__(
        self, url: str, queue: str, results: Results, run: DemoRun, say: Callable[[str], object]
    ) -> None:
        self._say = say
        self._queue = queue
        self._results = results
        self._run = run
        counts = results.counts()
        self.tally = FileTally(run.id, set(results.todo()), counts["done"], counts["dead"])
        self._app = App(
            redis_url=url,
            queues={queue: _CLAIMS},
            workers=[parse_file],
            processes=PROCESSES,
            poll_interval=0.2,
            shutdown_timeout=_GRACE_S,
        )
        self._progress = ProgressLine(self.tally)
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._stopping = False
        self._late_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> StartResult:
        """Run until every file is parsed or failed, or until a signal. Raises the app's errors."""
        self._listen()
        self.tally.listen(self._app)
        async with self._app.client_only():
            rescued = await self._rescue()
            await self._catch_up()
        began = self._clock.monotonic()
        await self._app.start()
        try:
            await self._watch()
        finally:
            self._stopping = True
            await self._app.stop()
            self._progress.clear()
            await self._save_failures()
        seconds = self._clock.monotonic() - began
        done = not self.tally.left
        return StartResult(done, self.tally.ended, seconds, rescued, self._late_s * 1000)

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._interrupt)
            except NotImplementedError:  # Windows
                pass

    def _interrupt(self) -> None:
        self._progress.clear()
        if not self._stop.is_set():
            self._stop.set()
            self._say("stopping: running jobs finish; a second signal stops them now")
        elif self._stopping:
            task = asyncio.ensure_future(self._app.stop(0))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- what is left to do

    async def _rescue(self) -> int:
        """Put back the jobs of a killed start at once: on the same host its death is certain."""
        count = 0
        while rescued := (await self._app.store.rescue()).rescued:
            count += len(rescued)
        return count

    async def _catch_up(self) -> None:
        """Enqueue each file that has neither a result nor a dead or waiting job in Redis."""
        waiting, dead = await survey(self._app.store, self._queue, self._run.id)
        for job in dead:
            fields = job.payload
            why = reason(str(fields.get("error_class")), str(fields.get("error_message")))
            self.tally.bury(job.args, why)
        await self._save_failures()
        todo = await asyncio.to_thread(self._results.todo)
        self.tally.compare(todo)
        known = {path for _, _, path in (job.args for job in waiting)}
        run, database = self._run.id, self._results.path
        missing = (path for path in todo if path not in known)
        jobs = (parse_file.using(queue=self._queue).new(run, database, path) for path in missing)
        await self._app.enqueue_many(jobs, atomic=False)

    async def _save_failures(self) -> None:
        """Save failed files before they are counted."""
        reasons = dict(self.tally.buried)
        if reasons:
            await asyncio.to_thread(self._results.given_up, self._run.id, reasons)
            self.tally.saved(list(reasons))

    # -- watching

    async def _watch(self) -> None:
        broken = asyncio.ensure_future(self._app.wait_stopped())
        idle_since = self._clock.monotonic()
        try:
            while self.tally.left and not self._stop.is_set() and not broken.done():
                ended = self.tally.ended
                await self._look()
                if self.tally.running or self.tally.ended > ended:
                    idle_since = self._clock.monotonic()
                elif self._clock.monotonic() - idle_since > _IDLE_S:
                    await self._catch_up()
                    idle_since = self._clock.monotonic()
        finally:
            broken.cancel()
        if broken.done() and not broken.cancelled():
            broken.result()

    async def _look(self) -> None:
        self._progress.show()
        await self._save_failures()
        before = self._clock.monotonic()
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await self._stop.wait()
        except TimeoutError:
            self._late_s = max(self._late_s, self._clock.monotonic() - before - _LOOK_EVERY_S)


async def survey(store: Store, queue: str, run: str) -> tuple[list[Job], list[Job]]:
    """The jobs of the run that wait, and those that are dead.

    The sets are read before the queue: a job that moves meanwhile is seen twice instead of never.
    """
    census = store.census
    waiting = [job async for job in _set(census, "retry", run)]
    waiting += [job async for job in _set(census, "schedule", run)]
    waiting += [
        job async for job in _pages(lambda at: census.queue_page(queue, at, _JOBS_PER_PAGE), run)
    ]
    return waiting, [job async for job in _set(census, "dead", run)]


def _set(census: Census, place: Place, run: str) -> AsyncIterator[Job]:
    return _pages(lambda at: census.page(place, at, _JOBS_PER_PAGE), run)


async def _pages(page: Callable[[int], Awaitable[Sequence[Entry]]], run: str) -> AsyncIterator[Job]:
    at = 0
    while entries := await page(at):
        at += len(entries)
        for job in (entry.job for entry in entries):
            if job is not None and job.class_ == parse_file.spec.name and job.args[:1] == [run]:
                yield job

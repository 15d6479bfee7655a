"""One start of the demo: find out what is left of the run, enqueue it, watch it being done."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple, final

from kiqpy.app import App
from kiqpy.clock import SystemClock
from kiqpy.demo.progress import Progress, Tally, reason
from kiqpy.demo.results import Results, Run
from kiqpy.demo.worker import parse_file
from kiqpy.job import Job
from kiqpy.store import Store
from kiqpy.store.census import Census, Entry, Place

PROCESSES: Final = 2
_CLAIMS: Final = 2 * PROCESSES  # so that a child that has ended finds its next file at hand
_GRACE_S: Final = 10.0
_LOOK_S: Final = 0.1
_STILL_S: Final = 5.0  # nothing runs, nothing is left to run, and yet files are open: look again
_PAGE: Final = 1000


class Work(NamedTuple):
    """What one start has done."""

    finished: bool
    files: int
    seconds: float
    rescued: int
    late_ms: float  # how much later than it should the event loop turned, at worst


@final
class Demo:
    """The run, brought to its end or, after a signal, as far as it came."""

    def __init__(
        self, url: str, queue: str, results: Results, run: Run, say: Callable[[str], object]
    ) -> None:
        self._say = say
        self._queue, self._results, self._run = queue, results, run
        counts = results.counts()
        self.tally = Tally(run.id, set(results.todo()), counts["done"], counts["dead"])
        self._app = App(
            redis_url=url, queues={queue: _CLAIMS}, workers=[parse_file], processes=PROCESSES,
            poll_interval=0.2, shutdown_timeout=_GRACE_S,
        )  # fmt: skip
        self._progress = Progress(self.tally)
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._stopping = False
        self._late_s = 0.0
        self._chores: set[asyncio.Task[None]] = set()

    async def work(self) -> Work:
        """Return when every file has its end, or after a signal. Raises what the app raises."""
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
            await self._write_down()
        seconds = self._clock.monotonic() - began
        done = not self.tally.left
        return Work(done, self.tally.ended, seconds, rescued, self._late_s * 1000)

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
            self._say("stopping: the files at hand are finished; once more stops at once")
        elif self._stopping:
            task = asyncio.ensure_future(self._app.stop(0))
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    # -- what is left

    async def _rescue(self) -> int:
        """Put back what a killed start had claimed; here its death is proven at once."""
        count = 0
        while rescued := (await self._app.store.rescue()).rescued:
            count += len(rescued)
        return count

    async def _catch_up(self) -> None:
        """Enqueue each file that has no result, no dead job and no job in Redis."""
        waiting, dead = await survey(self._app.store, self._queue, self._run.id)
        for job in dead:
            fields = job.payload
            why = reason(str(fields.get("error_class")), str(fields.get("error_message")))
            self.tally.bury(job.args, why)
        await self._write_down()
        todo = await asyncio.to_thread(self._results.todo)
        self.tally.compare(todo)
        known = {path for _, _, path in (job.args for job in waiting)}
        run, database = self._run.id, self._results.path
        missing = (path for path in todo if path not in known)
        jobs = (parse_file.using(queue=self._queue).new(run, database, path) for path in missing)
        await self._app.enqueue_many(jobs, atomic=False)

    async def _write_down(self) -> None:
        """The dead, before they count."""
        reasons = dict(self.tally.buried)
        if reasons:
            await asyncio.to_thread(self._results.given_up, self._run.id, reasons)
            self.tally.written(list(reasons))

    # -- watching

    async def _watch(self) -> None:
        broken = asyncio.ensure_future(self._app.wait_stopped())
        still_since = self._clock.monotonic()
        try:
            while self.tally.left and not self._stop.is_set() and not broken.done():
                ended = self.tally.ended
                await self._look()
                if self.tally.running or self.tally.ended > ended:
                    still_since = self._clock.monotonic()
                elif self._clock.monotonic() - still_since > _STILL_S:
                    await self._catch_up()
                    still_since = self._clock.monotonic()
        finally:
            broken.cancel()
        if broken.done() and not broken.cancelled():
            broken.result()

    async def _look(self) -> None:
        self._progress.show()
        await self._write_down()
        before = self._clock.monotonic()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._stop.wait()
        except TimeoutError:
            self._late_s = max(self._late_s, self._clock.monotonic() - before - _LOOK_S)


async def survey(store: Store, queue: str, run: str) -> tuple[list[Job], list[Job]]:
    """The run's jobs that wait to be run, and those that are dead.

    The sets come first: whoever moves from there to the queue meanwhile is seen twice, not never.
    """
    census = store.census
    waiting = [job async for job in _set(census, "retry", run)]
    waiting += [job async for job in _set(census, "schedule", run)]
    waiting += [job async for job in _pages(lambda at: census.queue_page(queue, at, _PAGE), run)]
    return waiting, [job async for job in _set(census, "dead", run)]


def _set(census: Census, place: Place, run: str) -> AsyncIterator[Job]:
    return _pages(lambda at: census.page(place, at, _PAGE), run)


async def _pages(page: Callable[[int], Awaitable[Sequence[Entry]]], run: str) -> AsyncIterator[Job]:
    at = 0
    while entries := await page(at):
        at += len(entries)
        for job in (entry.job for entry in entries):
            if job is not None and job.class_ == parse_file.spec.name and job.args[:1] == [run]:
                yield job

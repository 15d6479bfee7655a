"""Countable costs of a job: `python -m benchmarks.counts`.

Calls (of Python functions, resumptions of coroutines, and built-ins), handles and turns of the
standard event loop, commands, round trips, bytes, memory. How fast the machine is changes only how
jobs fall into batches. What the measuring's own threads do is not counted.
`tests/app/test_counts.py` sets a bound for each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import redis
from anyio.from_thread import start_blocking_portal

from benchmarks.bodies import ARGS
from benchmarks.ours import QUEUE
from benchmarks.ours.growth import payloads
from benchmarks.ours.with_kiqpy import inner, outer
from benchmarks.server import server
from benchmarks.traffic import Counts, counting
from kiqpy import App, worker

JOBS = 2000
BULK = 1000
SLOTS = 200  # of the drain
HELD = 1000  # jobs that run at once

Figures = dict[str, float]  # a job
Gauge = Callable[[], AbstractContextManager[None]]  # what is counted is what happens within
Scene = Callable[[str, Gauge], Awaitable[None]]


@worker(queue=QUEUE)
async def noop(text: str, n: int, options: dict[str, Any]) -> None:
    """Nothing."""


class Gate:
    """What `HELD` jobs wait at."""

    def __init__(self) -> None:
        self.full, self.open = asyncio.Event(), asyncio.Event()
        self._n = 0

    async def wait(self) -> None:
        self._n += 1
        if self._n == HELD:
            self.full.set()
        await self.open.wait()


gate = Gate()


@worker(queue=QUEUE)
async def hold(text: str, n: int, options: dict[str, Any]) -> None:
    """Runs until the gate opens."""
    await gate.wait()


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own, counting."""

    turns = handles = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]

    def _call_soon(self, *args: Any) -> Any:  # what call_soon and call_soon_threadsafe both call
        self.handles += 1
        return super()._call_soon(*args)  # type: ignore[misc]

    def _add_callback(self, handle: Any) -> None:  # a socket is ready
        self.handles += 1
        super()._add_callback(handle)  # type: ignore[misc]

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:
        self.handles += 1
        return super().call_at(*args, **options)


class Server:
    """What the measuring itself asks of the server."""

    def __init__(self, url: str) -> None:
        self._link = redis.Redis.from_url(url, protocol=2)
        self._pushed = 0
        self._link.flushall()

    def push(self, n: int, body: str = "noop") -> None:
        """Jobs into the queue, before this thread's event loop can do anything."""
        for start in range(self._pushed, self._pushed + n, 1000):
            part = payloads(start, min(1000, self._pushed + n - start))
            self._link.lpush(f"queue:{QUEUE}", *(p.replace(b"noop", body.encode()) for p in part))
        self._pushed += n

    async def processed(self) -> None:
        """All that was pushed is settled; another thread asks, whose calls are not counted."""
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while int(self._link.get("stat:processed") or 0) < self._pushed:
            assert time.monotonic() < until, "the jobs do not end"
            time.sleep(0.005)


def app(url: str, slots: int, middleware: Sequence[Any] = ()) -> App:
    around = [outer, inner, *middleware]
    return App(redis_url=url, queues={QUEUE: slots}, workers=[noop, hold], middleware=around)


def drain(*middleware: Any) -> Scene:
    """No-op jobs, default reporters, two middlewares and what more is given."""

    async def scene(url: str, gauge: Gauge) -> None:
        at = Server(url)
        async with app(url, SLOTS, middleware):
            at.push(SLOTS)
            await at.processed()
            at.push(JOBS)
            with gauge():
                await at.processed()

    return scene


async def one(url: str, gauge: Gauge) -> None:
    """Enqueued and awaited one by one."""
    async with app(url, 1).client_only() as jobs:
        await jobs.enqueue(noop.new(*ARGS))
        with gauge():
            for _ in range(JOBS):
                await jobs.enqueue(noop.new(*ARGS))


async def bulk(url: str, gauge: Gauge) -> None:
    """Enqueued a thousand at a time."""
    async with app(url, 1).client_only() as jobs:
        await jobs.enqueue(noop.new(*ARGS))
        with gauge():
            for _ in range(JOBS // BULK):
                await jobs.enqueue_many([noop.new(*ARGS) for _ in range(BULK)])


async def nowait(url: str, gauge: Gauge) -> None:
    """Buffered, a thousand before each flush."""
    async with app(url, 1).client_only() as jobs:
        await jobs.enqueue(noop.new(*ARGS))
        with gauge():
            for _ in range(JOBS // BULK):
                for _ in range(BULK):
                    jobs.enqueue_nowait(noop.new(*ARGS))
                await jobs.flush()


def counted(socket: Path, scene: Scene) -> Figures:
    """Everything but memory; two runs, so that counting one thing is not counted as another."""
    return traffic(socket, scene) | calls(socket, scene)


def traffic(socket: Path, scene: Scene) -> Figures:
    """What the event loop does and what goes to the server, through a proxy in another thread."""
    found: Figures = {}
    with start_blocking_portal() as portal, asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        with portal.wrap_async_context_manager(counting(socket)) as (url, counts):
            runner.run(scene(url, lambda: _between(loop, counts, found)))
    return found


@contextmanager
def _between(loop: Loop, counts: Counts, found: Figures) -> Iterator[None]:
    counts.clear()
    handles, turns = loop.handles, loop.turns
    yield
    found |= {
        "handles": (loop.handles - handles) / JOBS,
        "turns": (loop.turns - turns) / JOBS,
        "commands": counts.commands / JOBS,
        "trips": counts.trips / JOBS,
        "sent": counts.sent / JOBS,
        "received": counts.received / JOBS,
    }


def calls(socket: Path, scene: Scene) -> Figures:
    """Calls of this thread."""
    n = 0

    def seen(frame: Any, event: str, arg: Any) -> None:
        nonlocal n
        if event == "call" or event == "c_call":
            n += 1

    @contextmanager
    def gauge() -> Iterator[None]:
        sys.setprofile(seen)
        try:
            yield
        finally:
            sys.setprofile(None)

    with asyncio.Runner() as runner:
        runner.run(scene(f"unix://{socket}", gauge))
    return {"calls": n / JOBS}


def memory(socket: Path, *middleware: Any) -> Figures:
    """Bytes of Python's heap that a running job holds, and that a job leaves behind."""
    tracemalloc.start()
    try:
        with asyncio.Runner() as runner:
            return runner.run(_memory(f"unix://{socket}", middleware))
    finally:
        tracemalloc.stop()


async def _memory(url: str, middleware: Sequence[Any]) -> Figures:
    at = Server(url)
    async with app(url, HELD, middleware):
        await _held(at)
        idle = await _idle(at)
        running = await _held(at) - idle
        idle = await _idle(at)
        at.push(JOBS)
        await at.processed()
        return {"running": running / HELD, "kept": (await _idle(at) - idle) / JOBS}


async def _held(at: Server) -> int:
    """The heap while all slots are taken; they are free again on return."""
    global gate
    gate = Gate()
    at.push(HELD, "hold")
    await gate.full.wait()
    heap = _heap()
    gate.open.set()
    await at.processed()
    return heap


async def _idle(at: Server) -> int:
    """The heap after a batch of one: stages hold their last batch until the next one comes."""
    at.push(1)
    await at.processed()
    await asyncio.sleep(0.05)  # the reporters, too
    return _heap()


def _heap() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


SCENES: dict[str, Scene] = {"drain": drain(), "one": one, "bulk": bulk, "nowait": nowait}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "server.sock"
        with server("--unixsocket", str(socket)):
            found = {name: counted(socket, scene) for name, scene in SCENES.items()}
            found["memory"] = memory(socket)
    for name, figures in found.items():
        print(f"{name:8}" + "  ".join(f"{what} {value:.3f}" for what, value in figures.items()))
    fast = bool(sys.modules.get("msgspec"))
    print(json.dumps({"python": sys.version.split()[0], "msgspec": fast, "a_job": found}))


if __name__ == "__main__":
    main()

"""Runs one measure of one party in one process, and prints one line of JSON.

    python -m benchmarks.peers.saq URL enqueue one|tasks100|bulk1000|nowait N
                                       drain N [CONCURRENCY]
                                       sleep MS CONCURRENCY N
                                       sync N [THREADS]
                                       latency N [RATE]      one by one, or so many jobs a second
                                       idle SECONDS
                                       running N             resident memory with N running jobs
                                       memory N              the server's bytes for a queued job
                                       logged N [plain]      drain with two log lines a job, as
                                                             a worker process writes them, or by
                                                             the standard library's logging
                                       serve CONCURRENCY     until it is ended

Standard library only: each party's own interpreter runs it. The server is emptied first. A worker
process ends with its last job, without ceremony: what is measured lies between the first body's
first line and the last body's last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from benchmarks import bodies, produce, wire
from benchmarks.meter import Meter, cpu_s, rss_mb

SETTLE_S = 3.0  # an idle worker has come to rest
LEAST = 4  # jobs for each slot


class Unsupported(Exception):
    """The party has no such thing; the message says what it lacks."""


class Party:
    """What a party's file says: how to push, and how to run one worker process."""

    best: ClassVar[int] = 1000  # concurrency of the drain
    most: ClassVar[int] = 10_000  # beyond it the party only gets slower
    threads: ClassVar[int] = 40
    bodies: ClassVar[dict[str, Callable[..., Any]]] = bodies.ASYNC
    bulk: ClassVar[bool] = False
    tasks: ClassVar[bool] = True
    nowait: ClassVar[bool] = False
    logs: ClassVar[bool] = False
    log_lines = False  # two lines a job are asked for

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the producer: uvloop where the party can use it."""
        try:
            import uvloop
        except ImportError:
            return asyncio.new_event_loop()
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop

    async def open(self, url: str) -> None:
        """Connect the producer."""
        raise NotImplementedError

    async def close(self) -> None:
        """Disconnect the producer, where it would otherwise complain."""

    async def push(self, body: str, args: tuple[Any, ...]) -> None:
        """Enqueue one job; return when it is confirmed."""
        raise NotImplementedError

    async def push_many(self, body: str, jobs: list[tuple[Any, ...]]) -> None:
        """Enqueue many in the party's own bulk call; `bulk` says whether it has one."""
        raise NotImplementedError

    def push_nowait(self, body: str, args: tuple[Any, ...]) -> None:
        """Buffer one job and go on."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Return when all that was buffered is confirmed."""
        raise NotImplementedError

    def log_to(self, path: str, *, plain: bool) -> None:
        """Have log lines from INFO up written to a file, by `logging` or in a way of its own."""
        line = "%(asctime)s %(levelname)s %(name)s %(message)s"
        logging.basicConfig(filename=path, level=logging.INFO, format=line, force=True)

    def serve(self, url: str, concurrency: int) -> None:
        """Run one worker process' worth of jobs, for ever."""
        raise NotImplementedError

    def serve_threads(self, url: str, threads: int) -> None:
        """The same for jobs that are plain functions, `noop_sync`."""
        raise Unsupported("no plain functions")


def main(party: Party) -> None:
    """Carry out the command line."""
    logging.basicConfig(level=logging.WARNING)
    url, command, *rest = sys.argv[1:]
    try:
        COMMANDS[command](party, url, *rest)
    except Unsupported as lacks:
        say({"unsupported": str(lacks)})


def say(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def enqueue(party: Party, url: str, way: str, count: str) -> None:
    wire.ask(url, "FLUSHALL")
    with asyncio.Runner(loop_factory=party.loop) as runner:
        say(runner.run(produce.timed(party, url, way, int(count))))


def fill(party: Party, url: str, body: str, count: str, *args: str) -> None:
    values = tuple(float(arg) for arg in args) or (bodies.ARGS if body.startswith("noop") else ())
    with asyncio.Runner(loop_factory=party.loop) as runner:
        runner.run(produce.filled(party, url, body, values, int(count)))


def pace(party: Party, url: str, count: str, rate: str) -> None:
    with asyncio.Runner(loop_factory=party.loop) as runner:
        runner.run(produce.paced(party, url, int(count), float(rate)))


def drain(party: Party, url: str, count: str, concurrency: str = "") -> None:
    # A worker that claims all before the first body begins would be measured without its claims.
    slots = min(int(concurrency or party.best), party.most, max(1, int(count) // LEAST))
    drained(party, url, ("noop", count), slots)


def logged(party: Party, url: str, count: str, how: str = "") -> None:
    if not party.logs:
        raise Unsupported("not asked")
    party.log_lines = True
    with tempfile.NamedTemporaryFile(prefix="kiqpy-bench-") as file:
        party.log_to(file.name, plain=how == "plain")
        drained(party, url, ("noop", count), party.best)


def serve(party: Party, url: str, concurrency: str) -> None:
    """One of several workers; the process that started it ends it."""
    arm(url, 0)
    party.serve(url, int(concurrency))


def sleep(party: Party, url: str, ms: str, concurrency: str, count: str) -> None:
    if party.most == 1:
        raise Unsupported("one job at a time")
    drained(party, url, ("nap", count, ms), min(int(concurrency), party.most))


def sync(party: Party, url: str, count: str, threads: str = "") -> None:
    if type(party).serve_threads is Party.serve_threads:
        raise Unsupported("no plain functions")
    many = int(threads or party.threads)
    drained(party, url, ("noop_sync", count), many, party.serve_threads)


def running(party: Party, url: str, count: str) -> None:
    drained(party, url, ("hold", count), int(count))


def drained(
    party: Party,
    url: str,
    what: tuple[str, ...],
    slots: int,
    serve: Callable[[str, int], None] | None = None,
) -> None:
    if what[0] not in party.bodies:
        raise Unsupported("no coroutines as jobs")
    wire.ask(url, "FLUSHALL")
    child(url, "fill", *what).check()
    at_end(arm(url, int(what[1])), lambda meter: meter.figures | {"slots": slots})
    (serve or party.serve)(url, slots)


def latency(party: Party, url: str, count: str, rate: str = "0") -> None:
    wire.ask(url, "FLUSHALL")
    meter = arm(url, int(count))
    at_end(meter, lambda meter: percentiles(meter.samples) | meter.figures)
    child(url, "pace", count, rate).when(lambda: meter.now_running >= produce.WARM)
    party.serve(url, 10)


def idle(party: Party, url: str, seconds: str) -> None:
    wire.ask(url, "FLUSHALL")
    threading.Thread(target=watch_idle, args=(url, float(seconds)), daemon=True).start()
    party.serve(url, party.best)


def watch_idle(url: str, seconds: float) -> None:
    time.sleep(SETTLE_S)
    before, cpu, began = wire.info(url), cpu_s(), time.perf_counter()
    time.sleep(seconds)
    after, took_s = wire.info(url), time.perf_counter() - began
    say({
        "rss_mb": rss_mb(),
        "cpu_percent": (cpu_s() - cpu) / took_s * 100,
        "redis_cpu_percent": (wire.cpu_s(after) - wire.cpu_s(before)) / took_s * 100,
        "redis_commands_per_s": (wire.commands(after) - wire.commands(before)) / took_s,
    })  # fmt: skip
    os._exit(0)


def memory(party: Party, url: str, count: str) -> None:
    wire.ask(url, "FLUSHALL")
    child(url, "fill", "noop", "10").check()  # keys that are made once
    before = wire.held(wire.info(url))
    child(url, "fill", "noop", count).check()
    say({"bytes_per_job": (wire.held(wire.info(url)) - before) / int(count)})


def arm(url: str, total: int) -> Meter:
    bodies.meter = Meter(url, total)
    return bodies.meter


def at_end(meter: Meter, tell: Callable[[Meter], dict[str, Any]]) -> None:
    """When the last job has ended, print and be gone, whatever the worker would still do."""

    def wait() -> None:
        meter.done.wait()
        say(tell(meter))
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def percentiles(samples: Iterable[float]) -> dict[str, float]:
    ms = sorted(1000 * s for s in samples)
    return {"p50_ms": ms[len(ms) // 2], "p99_ms": ms[min(len(ms) - 1, int(len(ms) * 0.99))]}


class child:
    """The party's producer, in a process of its own."""

    def __init__(self, url: str, *command: str) -> None:
        module = sys.modules["__main__"].__spec__
        assert module is not None
        self._process = subprocess.Popen(
            [sys.executable, "-m", module.name, url, *command],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def check(self) -> None:
        """Wait until it has done its work."""
        written = self._process.communicate()[1].decode().strip().splitlines()
        if self._process.returncode:
            raise SystemExit(f"its producer: {written[-1] if written else 'failed'}")

    def when(self, ready: Callable[[], bool]) -> None:
        """Let it go on as soon as `ready()`."""

        def wait() -> None:
            while not ready():
                time.sleep(0.01)
            written = self._process.communicate(b"go\n")[1]
            if self._process.returncode:
                sys.stderr.buffer.write(written)
                os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


COMMANDS: dict[str, Callable[..., None]] = {
    "enqueue": enqueue, "drain": drain, "sleep": sleep, "sync": sync, "latency": latency,
    "idle": idle, "running": running, "memory": memory, "logged": logged,
    "serve": serve, "fill": fill, "pace": pace,
}  # fmt: skip

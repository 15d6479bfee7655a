"""The parts, by name: each sets up what it needs, and returns its microseconds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from benchmarks.bodies import ARGS
from benchmarks.micro.timing import best_us, driven, in_loop_us
from kiqpy import Job, worker
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._payload.arguments import check_args
from kiqpy._payload.json import encode
from kiqpy._reporting.bus import Bus
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._rules.decide import Rules, decide
from kiqpy._stages.consumer import Run, _task
from kiqpy._stages.executor import Executor
from kiqpy.cli import _log_lines
from kiqpy.clock import SystemClock
from kiqpy.current import enter_job
from kiqpy.event import JobStarted, JobSuccess
from kiqpy.job import Claim, decode
from kiqpy.middleware import compile_server
from kiqpy.observe.log import Log
from kiqpy.outcome import SUCCESS, Done, Failure
from kiqpy.store import Frame, OutgoingJob
from kiqpy.store._session import Session
from kiqpy.store.redis.backend import RedisBackend

Part = Callable[[], float]
PARTS: dict[str, Part] = {}
TASKS = 1000

PAYLOAD: dict[str, Any] = {
    "class": "noop", "args": list(ARGS), "queue": "bench", "retry": True, "jid": "0" * 24,
    "created_at": 1795225663.123, "enqueued_at": 1795225663.123,
}  # fmt: skip
RAW = encode(PAYLOAD)
clock = SystemClock()


@worker(queue="bench")
async def noop(text: str, n: int, options: dict[str, str]) -> None:
    """Nothing."""


def part(name: str) -> Callable[[Part], Part]:
    def keep(made: Part) -> Part:
        PARTS[name] = made
        return made

    return keep


class Server:
    """Stands in for the link to Redis: answers at once, whatever is asked."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def call(self, *_: Any) -> Any:
        return self.reply


def backend(reply: Any) -> RedisBackend:
    made = RedisBackend("redis://localhost:1/0", "micro:1:aa")
    made._connections = Server(reply)  # type: ignore[assignment]
    return made


# -- client


@part("worker.new")
def _new() -> float:
    return best_us(lambda: noop.new(*ARGS))


@part("check_args")
def _check() -> float:
    return best_us(lambda: check_args(ARGS))


@part("admission, with encode")
def _admit() -> float:
    admission, job = Admission(AdmissionSettings(), clock), noop.new(*ARGS)
    return best_us(lambda: admission.at_once(job))


@part("encode")
def _encode() -> float:
    return best_us(lambda: encode(PAYLOAD, checked=True))


def _push(n: int) -> float:
    frame = Frame("c", 1, [OutgoingJob("bench", "0" * 24, RAW)] * n)
    store = backend([b"new"])
    return best_us(driven(lambda: store.push(frame, 0.0))) / n


PARTS["push frame of 1, encode"] = lambda: _push(1)
PARTS["push frame of 100, encode, a job"] = lambda: _push(100)


# -- producer


def _fetch(n: int) -> float:
    session = Session(backend([None, *[RAW] * n]), clock)
    return best_us(driven(lambda: session.fetch("bench", n))) / n


PARTS["fetch of 1, to claims"] = lambda: _fetch(1)
PARTS["fetch of 100, to claims, a job"] = lambda: _fetch(100)


# -- consumer


@part("decode")
def _decode() -> float:
    return best_us(lambda: decode(RAW))


@part("Job.from_payload")
def _job() -> float:
    return best_us(lambda: Job.from_payload(PAYLOAD))


@part("Run, with its settlement")
def _run() -> float:
    claim, bus = Claim("bench", 1, RAW), Bus()
    return best_us(lambda: Run(claim, clock, bus).end(SUCCESS))


@part("context, with enter_job")
def _context() -> float:
    job = decode(RAW)
    return best_us(lambda: contextvars.copy_context().run(enter_job, job))


@part("task, made and run")
def _tasks() -> float:
    async def nothing() -> None: ...

    async def many() -> int:
        loop = asyncio.get_running_loop()
        tasks = [_task(nothing(), loop) for _ in range(TASKS)]
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        return TASKS

    return in_loop_us(many)


@part("executor, async body")
def _execute() -> float:
    async def run() -> float:
        execute, job = Executor(1, 1, clock, Bus()).runs(noop.spec), decode(RAW)
        return best_us(driven(lambda: execute(job)))

    return asyncio.run(run())


def _chain(n: int) -> float:
    async def through(job: Job, call_next: Any) -> Any:
        return await call_next(job)

    async def core(job: Job) -> None: ...

    job, around = decode(RAW), compile_server([through] * n)
    call = core if around is None else around(core)
    return best_us(driven(lambda: call(job)))


PARTS["middleware, none"] = lambda: _chain(0)
PARTS["middleware, 2"] = lambda: _chain(2)
PARTS["middleware, 3"] = lambda: _chain(3)


# -- reporter


@part("policy.decide, success")
def _success() -> float:
    claim, job, rules = Claim("bench", 1, RAW), decode(RAW), Rules()
    return best_us(lambda: decide(claim, job, SUCCESS, rules, 0.0, lambda: 0.5))


@part("policy.decide, failure")
def _failure() -> float:
    claim, job, rules = Claim("bench", 1, RAW), decode(RAW), Rules()
    failed = Failure(ValueError("no"))
    return best_us(lambda: decide(claim, job, failed, rules, 0.0, lambda: 0.5))


def _settle(n: int) -> float:
    frame = Frame("bench", 1, [Done(delivery) for delivery in range(1, n + 1)])
    store = backend(b"1" * n)
    return best_us(driven(lambda: store.settle(frame))) / n


PARTS["settle of 1, encode"] = lambda: _settle(1)
PARTS["settle of 100, encode, a job"] = lambda: _settle(100)


def _events(n: int) -> float:
    async def run() -> float:
        bus = Bus()
        for _ in range(n):
            bus.attach("job.started", lambda event: None)
        dispatcher, job = ReporterDispatcher([], bus), decode(RAW)

        async def told() -> None:
            if dispatcher.has_listeners(JobStarted):
                await dispatcher.emit([JobStarted(job)])

        return best_us(driven(told))

    return asyncio.run(run())


PARTS["event, nobody listens"] = lambda: _events(0)
PARTS["event, 3 handlers"] = lambda: _events(3)


def _lines(log: Log) -> float:
    """A line of a page of 100 jobs that ended well."""
    ended = [JobSuccess(decode(RAW), 0.001, 0.1)] * 100
    if log.batches:
        return best_us(lambda: log.handle_many(ended)) / 100
    return best_us(lambda: log.handle(ended[0]))


@part("log line, JSON, to a file")
def _json_line() -> float:
    with open(os.devnull, "w") as nowhere:
        _log_lines.configure("info", _log_lines.BufferedStream(nowhere))
        try:
            return _lines(Log())
        finally:
            structlog.reset_defaults()


@part("log line, plain logging, to a file")
def _plain_line() -> float:
    with _logging() as logger:
        assert logger.isEnabledFor(logging.INFO)
        return _lines(Log())


@part("logger.info called directly, to a file")
def _direct_line() -> float:
    with _logging() as logger:
        return best_us(lambda: logger.info("success jid=%s class=%s queue=%s", "0" * 24, "a", "b"))


@contextlib.contextmanager
def _logging() -> Iterator[logging.Logger]:
    """The logger `kiqpy` from INFO up, to a file that is nothing."""
    logger = logging.getLogger("kiqpy")
    level, propagate = logger.level, logger.propagate
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield logger
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate

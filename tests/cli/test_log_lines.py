"""JSON log lines: complete, in order, and written once in each turn of the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import subprocess
import sys
import threading
from typing import Any

import pytest
import structlog

from kiqpy import Job
from kiqpy.cli import _log_lines
from kiqpy.cli._log_lines import BufferedStream
from kiqpy.event import Event, JobAborted, JobFailure, JobStarted, JobSuccess
from kiqpy.observe.log import Log

# As another program may have written it: `Job(...)` takes no such name.
FOREIGN = Job.from_payload(
    {
        "class": 'Ünï"c\\öde\x7f\u2028',
        "args": [],
        "jid": 'a"b\n\x00\x1f',
        "queue": "a:b.c-d",
    }
)


class Counting(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Any:
    stream = Counting()
    _log_lines.configure("info", BufferedStream(stream))
    yield stream
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


async def burst(n: int) -> None:
    log = structlog.get_logger("shop")
    for k in range(n):
        log.info("sold", k=k)
    log.debug("not written")


def test_a_turn_of_the_loop_is_one_write(stream: Counting) -> None:
    asyncio.run(burst(100))
    assert [line["k"] for line in lines(stream)] == list(range(100))
    assert stream.writes == 1
    assert lines(stream)[0].keys() == {"event", "k", "level", "logger", "timestamp"}
    assert lines(stream)[0]["timestamp"].endswith("Z")


def test_without_a_loop_a_line_is_written_at_once(stream: Counting) -> None:
    structlog.get_logger("shop").warning("closed")
    assert lines(stream)[0]["event"] == "closed"


@pytest.mark.parametrize("value", [{1, 2}, math.nan, object(), b"raw", ["nested", {"a": {1}}]])
def test_what_is_not_json_is_written_all_the_same(stream: Counting, value: object) -> None:
    structlog.get_logger("shop").info("odd", value=value)
    assert lines(stream)[0]["event"] == "odd"


def test_an_exception_is_in_its_line(stream: Counting) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("shop").exception("broken")
    assert "ValueError: no" in lines(stream)[0]["exception"]


def test_lines_of_logging_and_of_structlog_keep_their_order_and_are_not_lost_at_the_end() -> None:
    program = """
import asyncio, logging, sys, structlog
from kiqpy.cli import _logs
_logs.configure("info", "json", sys.stderr)
async def main():
    for k in range(3):
        structlog.get_logger("a").info("one", k=k)
        logging.getLogger("b").info("two")
    asyncio.get_running_loop().stop()
loop = asyncio.new_event_loop()
loop.create_task(main())
loop.run_forever()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in found] == ["one", "two"] * 3
    assert {line["logger"] for line in found} == {"a", "b"}
    assert logging.getLogger("b").name == "b"


# -- a job's lines, past structlog


def events() -> list[Event]:
    """What may happen to jobs, with all that makes JSON difficult."""
    jobs = [
        Job("noop", jid="j1"),
        FOREIGN,
        Job("again", jid="j3", retry_count=3),
        Job.from_payload({"class": "bare", "args": []}),
        Job.from_payload({"class": "odd", "args": [], "jid": 7, "queue": None, "retry_count": "x"}),
    ]
    found: list[Event] = [JobStarted(job) for job in jobs]
    for job, took_s in zip(jobs, (0.0, 1e-7, 0.0123456789, 12.5, 123456.7890125), strict=True):
        found += [
            JobSuccess(job, took_s, None),
            JobAborted(job, 'not "today"', took_s),
            JobSuccess(job, 0.1 + took_s, 0.1),
            JobFailure(job, ValueError("nö"), took_s, 1 / 3),
            JobFailure(job, KeyError(), took_s, None),
        ]
    return found


def content(stream: Counting) -> list[list[tuple[str, Any]]]:
    """Every line with the order of its fields, without the time."""
    found = [list(line.items()) for line in lines(stream)]
    return [[pair for pair in line if pair[0] != "timestamp"] for line in found]


def pass_on(_logger: object, _method: str, line: Any) -> Any:
    return line


def add_processor() -> None:
    structlog.configure(processors=[pass_on, *structlog.get_config()["processors"]])


@pytest.mark.parametrize("options", [{"start_level": "info"}, {"slow_after": 1.0}, {},
                                     {"done_level": "debug", "slow_after": 1.0}])  # fmt: skip
def test_the_fast_path_writes_what_the_processors_would(
    stream: Counting, options: dict[str, Any]
) -> None:
    log = Log(**options)
    assert log.batches
    log.handle_many([event for event in events() if type(event) in log.listens_to()])
    short = content(stream)
    stream.seek(0)
    stream.truncate()
    add_processor()
    log = Log(**options)
    assert not log.batches
    for event in events():
        if type(event) in log.listens_to():
            log.handle(event)
    assert short == content(stream)
    assert len(short) >= 10


def test_its_timestamps_are_as_structlogs(stream: Counting) -> None:
    Log().handle_many(events())
    structlog.get_logger("shop").info("after")
    stamps = [line["timestamp"] for line in lines(stream)]
    assert stamps == sorted(stamps)
    assert {len(stamp) for stamp in stamps} == {len("2026-11-21T10:15:12.628406Z")}


def test_the_fast_path_is_taken_only_while_nothing_is_changed(stream: Counting) -> None:
    assert Log().batches
    with structlog.contextvars.bound_contextvars(service="mail"):
        log = Log()
        assert not log.batches
        log.handle(events()[5])
    assert lines(stream)[-1]["service"] == "mail"
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    assert not Log().batches
    assert Log().listens_to() == frozenset()


async def mixed() -> None:
    log, shop = Log(start_level="info"), structlog.get_logger("shop")
    for n in range(50):
        log.handle_many([JobStarted(Job("a", jid=f"{n}")), JobSuccess(Job("a", jid=f"{n}"), 1, 1)])
        shop.info("sold", jid=f"{n}")


def test_a_jobs_lines_and_an_applications_keep_their_order(stream: Counting) -> None:
    asyncio.run(mixed())
    found = [(line["event"], line["jid"]) for line in lines(stream)]
    assert found == [
        (event, f"{n}") for n in range(50) for event in ("job.started", "job.success", "sold")
    ]
    assert stream.writes == 1


# -- streams that fail, loops that end


class Failing(Counting):
    broken = False

    def write(self, text: str) -> int:
        if self.broken:
            raise OSError("no space left on device")
        return super().write(text)


async def through_an_outage(stream: Failing, complaints: list[Any]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    log = structlog.get_logger("shop")
    for n, stream.broken in enumerate((False, True, True, False, False)):
        log.info("sold", n=n)
        log.info("packed", n=n)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_a_stream_that_fails_costs_its_lines_and_nothing_else() -> None:
    stream, complaints = Failing(), list[Any]()
    _log_lines.configure("info", BufferedStream(stream))
    try:
        asyncio.run(through_an_outage(stream, complaints))
        stream.broken = True
        structlog.get_logger("shop").info("without a loop")
    finally:
        structlog.reset_defaults()
    assert complaints == []
    found = lines(stream)
    assert [line.get("n") for line in found] == [0, 0, None, 3, 3, 4, 4]
    assert found[2] == {"event": "log.lost", "lines": 4}


def leave(loop: asyncio.AbstractEventLoop) -> None:
    structlog.get_logger("shop").info("sold", k=-1)
    loop.stop()


def test_a_line_that_the_stream_can_not_write_costs_no_other() -> None:
    """Half a surrogate pair in one line lost the lines of its whole turn."""
    raw = io.BytesIO()
    output = BufferedStream(io.TextIOWrapper(raw, "utf-8", errors="strict", newline=""))
    for line in ("first\n", "half \ud800\n", "last\n"):
        output._held.append(line)
    output.flush()
    assert raw.getvalue() == b"first\nhalf \\ud800\nlast\n"


def test_what_a_loop_left_behind_is_written_with_the_next_line(stream: Counting) -> None:
    loop = asyncio.new_event_loop()
    loop.call_soon(leave, loop)
    loop.run_forever()
    loop.close()
    assert lines(stream) == []
    asyncio.run(burst(3))
    assert [line["k"] for line in lines(stream)] == [-1, 0, 1, 2]


def test_no_line_of_a_thread_is_lost() -> None:
    stream = Counting()
    output = BufferedStream(stream)

    def write(name: int) -> None:
        for n in range(2000):
            output.write(f"{name} {n}\n")

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(write, name) for name in range(4)))
        for n in range(100):
            output.write(f"loop {n}\n")
            await asyncio.sleep(0)

    before = threading.active_count()
    asyncio.run(main())
    output.flush()
    assert threading.active_count() == before
    found = stream.getvalue().splitlines()
    assert len(set(found)) == len(found) == 4 * 2000 + 100

"""Log lines: their fields, their levels, and a job's context in the application's lines."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from kiqpy import App, ConfigError, Discard, Job, worker
from kiqpy._reporting.bus import Bus
from kiqpy._rules.stack import traceback
from kiqpy.cli import _logs
from kiqpy.event import (
    FlushFailed,
    JobAborted,
    JobBackoffRefused,
    JobCancelled,
    JobDead,
    JobFailure,
    JobFenced,
    JobRefused,
    JobStarted,
    JobSuccess,
)
from kiqpy.observe.log import Log, context
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


class Lines:
    """What structlog was given, each line with its level and all that is bound to it."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def __call__(self, _logger: object, method: str, fields: Any) -> Any:
        self.all.append({**fields, "level": method})
        raise structlog.DropEvent

    def of(self, line: str) -> list[dict[str, Any]]:
        return [fields for fields in self.all if fields["event"] == line]

    def levels(self) -> dict[str, str]:
        """The level of each kind of line about a job."""
        jobs = (line for line in self.all if line["event"].startswith("job."))
        return {line["event"]: line["level"] for line in jobs}


@pytest.fixture
def lines() -> Iterator[Lines]:
    yield from configured(structlog.contextvars.merge_contextvars)


@pytest.fixture
def lines_without_context() -> Iterator[Lines]:
    yield from configured()


def configured(*processors: Any) -> Iterator[Lines]:
    """structlog as an application might configure it."""
    lines = Lines()
    structlog.configure(
        processors=[*processors, lines],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    yield lines
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@worker
async def good(n: int) -> None: ...


@worker(retry=2, backoff=lambda _count, _error, _job: 1000.0)
async def bad() -> None:
    raise ValueError("no")


@worker
async def unwanted() -> Discard:
    return Discard("not today")


@worker
async def slow() -> None:
    await asyncio.sleep(0.06)  # it is its length that is logged


@worker
async def says() -> None:
    structlog.get_logger().info("mine", bound=structlog.contextvars.get_contextvars())
    await asyncio.create_task(says_more())


async def says_more() -> None:
    structlog.get_logger().info("mine too")


@worker
def says_in_a_thread() -> None:
    structlog.get_logger().info("mine in a thread")


WORKERS = [good, bad, unwanted, slow, says, says_in_a_thread]


async def run(server: TestServer, *jobs: Job, **options: Any) -> list[str]:
    """Run the jobs to their end, one after the other; their jids."""
    app = App(redis_url=server.url, workers=WORKERS, queues={"default": 1}, **options)
    stopped: asyncio.Queue[Any] = asyncio.Queue()
    app.attach("job.stopped", stopped.put_nowait)
    jids: list[str] = []
    async with app:
        for job in jobs:
            jids.append((await app.enqueue(job)).jid)
            await asyncio.wait_for(stopped.get(), 20)
    return jids


def line_of(made: Any) -> int:
    """The last line of a worker's function."""
    source, first = inspect.getsourcelines(made.__wrapped__)
    return first + len(source) - 1


async def test_every_line_of_a_job_says_whose_it_is(clean: TestServer, lines: Lines) -> None:
    good_jid, bad_jid, unwanted_jid = await run(clean, good.new(1), bad.new(), unwanted.new())
    who = {"class": "good", "queue": "default", "attempt": 1, "jid": good_jid}
    assert lines.of("job.started")[0] == {"event": "job.started", "level": "debug"} | who
    [success] = lines.of("job.success")
    assert 0 < success.pop("took_s") < 20
    assert success == {"event": "job.success", "level": "info"} | who
    [failure] = lines.of("job.failure")
    assert 0 < failure.pop("took_s") < 20
    assert failure.pop("at") == f"{__file__}:{line_of(bad)} in bad"
    assert failure.pop("stack").splitlines()[1:] == [
        f'  File "{__file__}", line {line_of(bad)}, in bad',
        '    raise ValueError("no")',
        "ValueError: no",
    ]
    assert failure == {
        "event": "job.failure", "level": "warning", "jid": bad_jid, "class": "bad",
        "queue": "default", "attempt": 1, "error": "ValueError: no", "retry_in_s": 1000.0,
    }  # fmt: skip
    [aborted] = lines.of("job.aborted")
    assert aborted["reason"] == "not today"
    assert aborted["jid"] == unwanted_jid


async def test_levels_are_as_the_app_says(clean: TestServer, lines: Lines) -> None:
    options = {"start_log_level": "info", "done_log_level": "debug", "fail_log_level": "error"}
    await run(clean, good.new(1), bad.new(), unwanted.new(), **options)
    assert lines.levels() == {
        "job.started": "info", "job.success": "debug", "job.failure": "error",
        "job.aborted": "debug",
    }  # fmt: skip


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"start_log_level='loud': give 'debug', 'info', 'warning', 'error' or"
    ):
        App(start_log_level="loud")


async def test_a_job_that_took_too_long_is_warned_of_once(clean: TestServer, lines: Lines) -> None:
    await run(clean, slow.new(), good.new(1), slow_after=0.05)
    [line] = lines.of("job.slow")
    assert line["took_s"] > 0.05
    assert (line["class"], line["level"]) == ("slow", "warning")
    assert len(lines.of("job.success")) == 2


async def test_without_slow_after_nobody_is_slow(clean: TestServer, lines: Lines) -> None:
    await run(clean, slow.new())
    assert lines.of("job.slow") == []


async def test_a_jobs_own_lines_have_its_context(clean: TestServer, lines: Lines) -> None:
    jids = await run(clean, says.new(), says_in_a_thread.new(), says.new())
    first, in_a_thread, last = jids
    for line, class_, expected in (
        ("mine", "says", [first, last]),
        ("mine too", "says", [first, last]),
        ("mine in a thread", "says_in_a_thread", [in_a_thread]),
    ):
        assert [said["jid"] for said in lines.of(line)] == expected
        for said in lines.of(line):
            assert (said["class"], said["queue"], said["attempt"]) == (class_, "default", 1)
    assert structlog.contextvars.get_contextvars() == {}


@pytest.fixture(params=["json", "console"])
def ours(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What `kiqpy run` writes."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    _logs.configure("info", request.param, stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@worker
async def says_it_twice() -> None:
    with structlog.contextvars.bound_contextvars(shelf="A7"):
        structlog.get_logger().info("of structlog", queue="own-queue")
        logging.getLogger("shop").info("of logging")
    await asyncio.to_thread(logging.getLogger("shop").info, "of a thread")


async def test_under_kiqpy_run_a_jobs_own_lines_have_its_context(
    clean: TestServer, ours: io.StringIO
) -> None:
    app = App(redis_url=clean.url, workers=[says_it_twice])
    async with app:
        jid = (await app.enqueue(says_it_twice.new())).jid
        await eventually(lambda: "job.success" in ours.getvalue(), "its last line")
        logging.getLogger("shop").info("nobody's")
        await eventually(lambda: "nobody's" in ours.getvalue(), "a line outside of a job")
    words = ("of structlog", "of logging", "of a thread", "job.success", "nobody's")
    lines = {w: line for line in ours.getvalue().splitlines() for w in words if w in line}
    for word in words[:-1]:
        assert jid in lines[word]
        assert "says_it_twice" in lines[word]
    assert "own-queue" in lines["of structlog"]
    assert "A7" in lines["of structlog"]
    assert "A7" in lines["of logging"]
    assert jid not in lines["nobody's"]


async def test_where_nobody_would_see_it_nothing_is_bound(
    clean: TestServer, lines_without_context: Lines
) -> None:
    await run(clean, says.new())
    [line] = lines_without_context.of("mine")
    assert line["bound"] == {}


def test_context_is_for_those_who_merge_it(lines: Lines) -> None:
    assert context() is not None
    structlog.configure(processors=[lines])
    assert context() is None
    structlog.reset_defaults()
    assert context() is None


def test_structlog_is_never_configured_by_an_import() -> None:
    program = (
        "import kiqpy, kiqpy.observe.log, structlog\n"
        "jobs = kiqpy.App()\n"
        "assert not structlog.is_configured()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_without_structlog_lines_go_to_the_standard_librarys_logger(
    clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kiqpy")
    [jid] = await run(clean, good.new(1))
    [line] = [record for record in caplog.records if "job.success" in record.getMessage()]
    assert line.name == "kiqpy"
    assert f"jid='{jid}'" in line.getMessage()
    assert "job.started" not in caplog.text  # DEBUG


def as_structlog_would(event: str, **fields: Any) -> str:
    """The text of a plain line: structlog's own `key='value'` form."""
    render = structlog.processors.KeyValueRenderer(key_order=["event"])
    return str(render(None, "info", {**fields, "event": event}))


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """All that reaches a handler of the logger `kiqpy`."""
    found: list[logging.LogRecord] = []
    logger = logging.getLogger("kiqpy")
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.filters.clear()
    logger.disabled = False


def test_plain_lines_read_as_structlogs(records: list[logging.LogRecord]) -> None:
    job = Job("it's", jid='"j"', queue="mail", retry_count=1)
    who = {"jid": '"j"', "class": "it's", "queue": "mail", "attempt": 3}
    log, bus = Log(start_level="info", slow_after=1.0), Bus()
    for name, handler in log.handlers():
        bus.attach(name, handler)
    log.handle(JobStarted(job))
    log.handle(JobSuccess(job, 2.12345678, None))
    log.handle(JobAborted(job, "no", 0.1))
    log.handle(JobFailure(job, ValueError("no"), 0.1, 1 / 3))
    bus.emit(FlushFailed("away", 3))
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("INFO", as_structlog_would("job.started", **who)),
        ("INFO", as_structlog_would("job.success", **who, took_s=2.123457)),
        ("WARNING", as_structlog_would("job.slow", **who, took_s=2.123457)),
        ("INFO", as_structlog_would("job.aborted", **who, took_s=0.1, reason="no")),
        ("WARNING", as_structlog_would("job.failure", **who, took_s=0.1, error="ValueError: no",
                                       retry_in_s=0.333)),
        ("WARNING", as_structlog_would("flush.failed", error="away", buffered=3)),
    ]  # fmt: skip
    assert {record.name for record in records} == {"kiqpy"}


def test_plain_lines_obey_the_loggers_level_filters_and_factory(
    records: list[logging.LogRecord],
) -> None:
    logger, log, ended = logging.getLogger("kiqpy"), Log(), JobSuccess(Job("a"), 0.1, None)
    log.handle(ended)
    logger.setLevel(logging.WARNING)
    log.handle(ended)
    logger.setLevel(logging.INFO)
    logger.addFilter(lambda record: "'b'" not in record.getMessage())
    log.handle(JobSuccess(Job("b"), 0.1, None))
    assert len(records) == 1
    logger.disabled = True
    log.handle(ended)
    assert len(records) == 1
    logger.disabled = False
    made = logging.getLogRecordFactory()
    try:
        logging.setLogRecordFactory(Marked)
        log.handle(ended)
    finally:
        logging.setLogRecordFactory(made)
    assert isinstance(records[1], Marked)


class Marked(logging.LogRecord):
    """A record of an application's own."""


def test_where_a_line_may_fail_each_is_written_by_itself(lines: Lines) -> None:
    """Five errors in a row detach a reporter; one error that costs a whole batch would hide."""
    assert not Log().batches
    structlog.reset_defaults()
    assert not Log().batches


def test_structlog_is_imported_by_those_who_use_it() -> None:
    program = "import sys, kiqpy; kiqpy.App(); assert 'structlog' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class Refusing:
    """A processor that fails, at first."""

    def __init__(self) -> None:
        self.failures, self.lines = 3, list[Any]()

    def __call__(self, _logger: object, _method: str, fields: Any) -> Any:
        if fields["event"] == "job.success" and self.failures:
            self.failures -= 1
            raise ValueError("no")
        self.lines.append(fields)
        raise structlog.DropEvent


async def test_a_processor_that_raises_costs_one_line_and_no_job(clean: TestServer) -> None:
    refusing = Refusing()
    structlog.configure(processors=[refusing], cache_logger_on_first_use=False)
    try:
        jids = await run(clean, *(good.new(n) for n in range(8)))
    finally:
        structlog.reset_defaults()
    done = [line["jid"] for line in refusing.lines if line["event"] == "job.success"]
    assert done == jids[3:]
    assert clean.cli("GET", "stat:processed") in (8, "8")


def heard(level: int, **options: Any) -> frozenset[Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    return Log(**options).listens_to()


def test_lines_that_nobody_wants_are_free(lines: Lines) -> None:
    rare = {JobDead, JobFenced, JobBackoffRefused}
    everything = {JobStarted, JobSuccess, JobAborted, JobFailure, JobCancelled} | rare
    assert heard(logging.DEBUG) == everything
    assert heard(logging.INFO) == everything - {JobStarted}
    assert heard(logging.WARNING) == {JobFailure} | rare
    assert heard(logging.ERROR) == frozenset()
    assert heard(logging.ERROR, fail_level="critical") == {JobFailure}
    assert heard(logging.WARNING, slow_after=1.0) == everything - {JobStarted, JobCancelled}
    assert heard(logging.ERROR, slow_after=1.0) == frozenset()


def test_what_happens_outside_of_jobs_is_logged_without_payloads(lines: Lines) -> None:
    bus, log = Bus(), Log()
    for name, handler in log.handlers():
        bus.attach(name, handler)
    bus.emit(FlushFailed("away", 3))
    bus.emit(JobRefused("j1", "mail", b"secret", "no"))
    for _, handler in log.handlers():
        bus.detach(handler)
    bus.emit(FlushFailed("away", 4))
    assert lines.all == [
        {"event": "flush.failed", "level": "warning", "error": "away", "buffered": 3},
        {"event": "job.refused", "level": "error", "jid": "j1", "queue": "mail", "error": "no"},
    ]


# -- the stack of a failure


@worker(retry=0)
async def fails_deep(secret: str) -> None:
    try:
        await deeper(secret)
    except KeyError as error:
        raise RuntimeError("no order") from error


async def deeper(secret: str) -> None:
    await asyncio.sleep(0)
    raise KeyError("nokey")


@worker(retry=0)
def fails_in_a_thread() -> None:
    [].pop()


@worker(retry=0)
async def fails_in_a_library() -> None:
    json.loads("{")


@worker(retry=0)
async def fails_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(deeper("x"))


@worker(retry=0, timeout=0.05)
async def hangs() -> None:
    await asyncio.Event().wait()


FAILING = [fails_deep, fails_in_a_thread, fails_in_a_library, fails_in_a_group, hangs]


async def failed(server: TestServer, job: Job, **options: Any) -> dict[str, Any]:
    """What the job's payload is in the dead set."""
    app = App(redis_url=server.url, workers=FAILING, **options)
    async with app.events("job.stopped") as stopped, app:
        await app.enqueue(job)
        await asyncio.wait_for(anext(stopped), 20)
        page = await app.admin.jobs("dead")
    assert page.rows[0].job is not None
    return page.rows[0].job.payload


async def test_the_stack_of_a_failure_is_logged_with_causes_and_without_values(
    clean: TestServer, lines: Lines
) -> None:
    await failed(clean, fails_deep.new("hunter2"))
    [line] = lines.of("job.failure")
    assert line["error"] == "RuntimeError: no order"
    assert line["at"] == f"{__file__}:{line_of(fails_deep)} in fails_deep"
    stack = line["stack"]
    assert stack.index("KeyError: 'nokey'") < stack.index("direct cause") < stack.index("no order")
    assert "in deeper" in stack
    assert "hunter2" not in stack
    assert "/kiqpy/_stages/" not in stack


@pytest.mark.parametrize(
    ("job", "at", "words"),
    [
        (fails_in_a_thread.new(), "in fails_in_a_thread", "[].pop()"),
        (fails_in_a_library.new(), "in fails_in_a_library", "json/decoder.py"),
        (fails_in_a_group.new(), "in fails_in_a_group", "KeyError: 'nokey'"),
        (hangs.new(), "in hangs", "await asyncio.Event().wait()"),
    ],
)
async def test_the_line_names_the_users_own_code(
    clean: TestServer, lines: Lines, job: Job, at: str, words: str
) -> None:
    await failed(clean, job)
    [line] = lines.of("job.failure")
    assert line["at"].startswith(__file__)
    assert line["at"].endswith(at)
    assert words in line["stack"]


async def test_the_app_says_whether_payloads_keep_the_stack(clean: TestServer) -> None:
    assert "error_backtrace" not in await failed(clean, fails_deep.new("x"))
    clean.cli("FLUSHALL")
    assert "error_backtrace" in await failed(clean, fails_deep.new("x"), backtrace=3)
    clean.cli("FLUSHALL")
    job = fails_deep.using(backtrace=False).new("x")
    assert "error_backtrace" not in await failed(clean, job, backtrace=True)


def test_a_plain_record_has_the_stack_below_its_line(records: list[logging.LogRecord]) -> None:
    error = ValueError("no")
    try:
        raise error
    except ValueError:
        Log().handle(JobFailure(Job("a"), error, 0.1, None))
    written = logging.Formatter("%(message)s").format(records[0])
    first, *stack = written.splitlines()
    assert "at='" in first
    assert "Traceback" not in first
    assert stack[0] == "Traceback (most recent call last):"
    assert stack[-1] == "ValueError: no"


async def test_a_jobs_end_is_told_in_order(clean: TestServer, lines: Lines) -> None:
    """The line of job.dead came before that of job.failure."""
    await failed(clean, fails_deep.new("x"))
    told = [line["event"] for line in lines.all if line["event"].startswith("job.")]
    assert told == ["job.started", "job.failure", "job.dead"]


def test_a_stack_is_bounded() -> None:
    def endless(n: int) -> None:
        endless(n + 1)

    try:
        endless(0)
    except RecursionError as error:
        found = traceback(error)
    assert "frames more)" in found
    assert len(found) < 10_000
    error = ValueError("x" * 10**6)
    for _ in range(100):
        wrapping = ValueError("y")
        wrapping.__cause__, error = error, wrapping
    assert traceback(error) == ""  # nobody has raised it
    group = ExceptionGroup("many", [ValueError("x" * 10**6)] * 100)
    group.__cause__ = error
    with pytest.raises(ExceptionGroup) as raised:
        raise group
    assert len(traceback(raised.value)) < 20_000


# -- an application that configures logging by itself

HABITS = {
    "dictConfig": """
logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": ["h"]},
    "handlers": {"h": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}}})
""",
    "basicConfig": "logging.basicConfig(level=logging.INFO, force=True)",
    "uvicorn's": """
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False,
    "formatters": {"f": {"format": "%(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "loggers": {"uvicorn": {"handlers": ["h"], "level": "INFO", "propagate": False}}})
""",
}
PROGRAM = """
import asyncio, logging.config, sys
from kiqpy import App, worker
from kiqpy.cli import _logs
if sys.argv[2]:
    _logs.configure("info", sys.argv[2], sys.stderr)
logging.getLogger("kiqpy")  # as our modules do when they are imported
exec(sys.argv[3])

@worker(retry=0)
async def fails():
    raise ValueError("no")

async def main():
    app = App(redis_url=sys.argv[1], workers=[fails])
    async with app.events("job.stopped") as stopped, app:
        await app.enqueue(fails.new())
        await anext(stopped)

asyncio.run(main())
"""


@pytest.mark.parametrize("style", ["", "console", "json"])
@pytest.mark.parametrize("habit", HABITS)
def test_failures_are_told_however_the_application_configures_logging(
    clean: TestServer, habit: str, style: str
) -> None:
    """dictConfig disables the loggers that exist: not a line was written, of failures neither."""
    words = [sys.executable, "-c", PROGRAM, clean.url, style, HABITS[habit]]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    assert "job.failure" in ended.stderr
    assert "job.dead" in ended.stderr


@pytest.mark.anyio
async def test_who_starts_the_embedded_server_says_so_as_every_line_is_said(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process that used it said so, in prose beside lines of fields."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "KIQPY_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    async with App(), App(), App().client_only():
        pass
    [said] = lines.of("store.embedded")
    assert said["directory"] == str(tmp_path / ".kiqpy")
    assert said["level"] == "warning"
    assert "using a private server" in said["reason"]

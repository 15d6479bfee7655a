"""An app inside a web service: order of start and stop, and what each error does."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kiqpy import App, LifecycleError, StoreUnavailable, worker
from kiqpy._runtime.state import State
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

ran: list[int] = []
began, go = asyncio.Event(), asyncio.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    global began, go
    ran.clear()
    began, go = asyncio.Event(), asyncio.Event()


@worker
async def note(n: int) -> None:
    ran.append(n)


@worker
async def waits(n: int) -> None:
    began.set()
    await go.wait()
    ran.append(n)


class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits]


@pytest.fixture
def jobs(redis_url: str) -> Jobs:
    return Jobs(redis_url=redis_url)


def processes(server: TestServer) -> int:
    return int(str(server.cli("SCARD", "processes")))


async def is_stopped(jobs: Jobs) -> bool:
    try:
        await jobs.flush()
    except LifecycleError:
        return True
    return False


# -- lifespans


async def test_jobs_run_while_the_service_does(jobs: Jobs, clean: TestServer) -> None:
    async with jobs.lifespan(object()) as state:
        assert state is None  # Starlette refuses other than a mapping
        await jobs.enqueue(note.new(1))
        await eventually(lambda: ran == [1], "the job")
        assert processes(clean) == 1
    assert processes(clean) == 0
    assert await is_stopped(jobs)
    async with jobs.lifespan(object()):  # a service may be started again
        pass


async def test_the_services_end_waits_for_running_jobs(jobs: Jobs) -> None:
    async with jobs.lifespan(object()):
        await jobs.enqueue(waits.new(1))
        await began.wait()
        asyncio.get_running_loop().call_soon(go.set)
    assert ran == [1]


async def test_the_grace_is_the_apps(redis_url: str, clean: TestServer) -> None:
    jobs = Jobs(redis_url=redis_url, shutdown_timeout=0.05)
    async with jobs.lifespan(object()):
        await jobs.enqueue(waits.new(1))
        await began.wait()
    assert ran == []
    assert clean.cli("LLEN", "queue:default") == 1


async def test_a_client_only_enqueues(jobs: Jobs, redis_url: str, clean: TestServer) -> None:
    async with jobs.client_lifespan(object()):
        assert (await jobs.enqueue(note.new(1))).state == "queued"
        assert processes(clean) == 0
    async with jobs.lifespan_around(named, client_only=True)(object()) as state:
        assert state == {"name": "x"}
        await jobs.enqueue(note.new(2))
        assert processes(clean) == 0
    other = Jobs(redis_url=redis_url, server=False)
    async with other.lifespan(object()):
        await other.enqueue(note.new(3))
        assert processes(clean) == 0
    assert clean.cli("LLEN", "queue:default") == 3
    assert ran == []


# -- around another lifespan


@asynccontextmanager
async def named(_service: object) -> AsyncIterator[dict[str, str]]:
    yield {"name": "x"}


async def test_what_was_there_runs_inside(jobs: Jobs) -> None:
    order: list[Any] = []
    service = object()

    @asynccontextmanager
    async def existing(given: object) -> AsyncIterator[dict[str, int]]:
        await jobs.enqueue(note.new(1))
        order.append(given)
        yield {"pool": 7}
        order.append("closed")
        await jobs.enqueue(note.new(2))  # still open for it

    async with jobs.lifespan_around(existing)(service) as state:
        assert state == {"pool": 7}
        assert order == [service]
    assert order == [service, "closed"]
    assert await is_stopped(jobs)


async def test_a_bare_generator_will_do(jobs: Jobs) -> None:
    async def existing(_service: object) -> AsyncIterator[int]:
        yield 7

    wrapped: Any = jobs.lifespan_around(existing)  # type: ignore[arg-type]
    async with wrapped(object()) as state:
        assert state == 7


@pytest.mark.parametrize("place", ["start", "service", "end"])
async def test_errors_come_out_and_jobs_are_stopped(
    jobs: Jobs, clean: TestServer, place: str
) -> None:
    caught: list[str] = []

    @asynccontextmanager
    async def existing(_service: object) -> AsyncIterator[None]:
        if place == "start":
            raise RuntimeError("no database")
        try:
            yield
        except RuntimeError as error:
            caught.append(str(error))
            raise
        if place == "end":
            raise RuntimeError("no goodbye")

    async def service() -> None:
        async with jobs.lifespan_around(existing)(object()):
            if place == "service":
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match=r"no database|no goodbye|broken"):
        await service()
    assert caught == (["broken"] if place == "service" else [])
    assert await is_stopped(jobs)
    assert processes(clean) == 0


async def test_a_service_whose_jobs_can_not_start_does_not_start(clean: TestServer) -> None:
    entered: list[int] = []

    @asynccontextmanager
    async def existing(_service: object) -> AsyncIterator[None]:
        entered.append(1)
        yield

    clean.kill()
    with pytest.raises(StoreUnavailable):
        async with Jobs(redis_url=clean.url).lifespan_around(existing)(object()):
            entered.append(2)
    assert entered == []
    clean.start()


async def test_a_cancel_stops_the_jobs_and_stays_a_cancel(jobs: Jobs, clean: TestServer) -> None:
    up = asyncio.Event()

    async def service() -> None:
        async with jobs.lifespan_around(named)(object()):
            await jobs.enqueue(waits.new(1))
            await began.wait()
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(service())
    await up.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_stopped(jobs)
    assert processes(clean) == 0
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "kiqpy:watch" not in names


async def test_a_second_cancel_ends_the_grace_and_leaves_nobody_watching(
    jobs: Jobs, clean: TestServer
) -> None:
    async def service() -> None:
        async with jobs.lifespan(object()):
            await jobs.enqueue(waits.new(1))
            await asyncio.Event().wait()

    task = asyncio.create_task(service())
    await began.wait()
    task.cancel()
    await eventually(lambda: jobs._lifecycle.state is State.STOPPING, "the stop")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clean.cli("LLEN", "queue:default") == 1
    await asyncio.sleep(0)
    assert "kiqpy:watch" not in {task.get_name() for task in asyncio.all_tasks()}


# -- an app that breaks, or is told to stop


async def test_an_app_that_breaks_says_so_and_the_service_goes_on(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    defect = RuntimeError("a defect")

    async def service() -> None:
        async with jobs.lifespan(object()):
            assert jobs.failure is None
            jobs._lifecycle.on_failure(defect)
            await eventually(lambda: "the service around it goes on" in caplog.text, "the line")
            assert jobs.failure is defect
            assert (await jobs.enqueue(note.new(1))).state == "queued"

    with pytest.raises(RuntimeError, match="a defect"):
        await service()
    levels = {record.levelno for record in caplog.records if "kiqpy" in record.name}
    assert logging.CRITICAL in levels
    assert await is_stopped(jobs)


async def test_what_ends_the_service_is_not_hidden_by_a_broken_app(jobs: Jobs) -> None:
    async def service() -> None:
        async with jobs.lifespan(object()):
            jobs._lifecycle.on_failure(RuntimeError("a defect"))
            raise KeyError("the service's own")

    with pytest.raises(KeyError):
        await service()


async def test_a_stop_from_afar_only_quiets(
    redis_url: str, clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = Jobs(redis_url=redis_url, heartbeat_interval=0.1, lease_ttl=5)
    heard: list[str] = []
    jobs.attach("process.*", lambda event: heard.append(event.name))
    async with jobs.lifespan(object()):
        clean.cli("LPUSH", f"{jobs.store.ident}-signals", "TERM")
        await eventually(lambda: "process.quiet" in heard, "the quiet")
        assert (await jobs.enqueue(note.new(1))).state == "queued"
    assert heard[-1] == "process.stopped"
    assert "an operator told" in caplog.text
    assert clean.cli("LLEN", "queue:default") == 1
    assert ran == []


async def test_an_ordinary_end_is_not_taken_for_an_order(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    async with jobs.lifespan(object()):
        await jobs.stop()
        await asyncio.sleep(0)
    assert "from afar" not in caplog.text
    assert "goes on" not in caplog.text


# -- aiohttp


async def test_cleanup_contexts_of_aiohttp(jobs: Jobs, clean: TestServer) -> None:
    for context, servers in ((jobs.cleanup_ctx, 1), (jobs.client_cleanup_ctx, 0)):
        async with aclosing(context(object())) as steps:  # as aiohttp calls it
            await anext(steps)
            assert processes(clean) == servers
            await jobs.enqueue(note.new(1))
            assert await anext(steps, "ended") == "ended"
        assert await is_stopped(jobs)


async def test_no_signal_is_taken(jobs: Jobs) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN)
    before = [signal.getsignal(number) for number in numbers]
    async with jobs.lifespan(object()):
        assert [signal.getsignal(number) for number in numbers] == before
    assert [signal.getsignal(number) for number in numbers] == before


FAILING = """
from aiohttp import web
from kiqpy import App

async def broken(service):
    raise RuntimeError("no database")
    yield

service = web.Application()
service.cleanup_ctx.extend([App().cleanup_ctx, broken])
web.run_app(service, host="127.0.0.1", port=0)
"""


@pytest.mark.slow
async def test_aiohttp_leaves_nothing_if_a_later_context_fails(clean: TestServer) -> None:
    """It calls no cleanup then; the generator is closed with the loop."""
    pytest.importorskip("aiohttp")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FAILING, env={"REDIS_URL": clean.url, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    written, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"no database" in written
    assert b"kiqpy/_runtime/web.py" not in written
    assert processes(clean) == 0, written.decode()

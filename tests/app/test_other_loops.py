"""A started app, called from an event loop that is not its own, or does not run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any

import pytest

from kiqpy import App, LifecycleError, Periodic, worker
from kiqpy._runtime.periodics import Periodics
from kiqpy.admin import Admin
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

loops: list[asyncio.AbstractEventLoop] = []
began = threading.Event()


@worker
async def note(n: int) -> None:
    loops.append(asyncio.get_running_loop())


@worker
async def waits(n: int) -> None:
    began.set()
    await asyncio.Event().wait()


class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits]
    periodics = [Periodic("0 0 1 1 *", note, name="yearly", args=[1], queue="cron")]


@pytest.fixture(autouse=True)
def fresh() -> None:
    loops.clear()
    began.clear()


@pytest.fixture
async def jobs(clean: TestServer) -> AsyncIterator[Jobs]:
    async with Jobs(redis_url=clean.url) as jobs:
        yield jobs


async def elsewhere(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What it comes to in the event loop of another thread."""
    return await asyncio.to_thread(lambda: asyncio.run(asyncio.wait_for(call(), 30)))


Call = Callable[[Jobs], Awaitable[object]]

OF_APP: dict[str, Call] = {
    "enqueue": lambda jobs: jobs.enqueue(note.new(1)),
    "enqueue_many": lambda jobs: jobs.enqueue_many([note.new(1), note.new(2)]),
    "flush": lambda jobs: jobs.flush(),
    "quiet": lambda jobs: jobs.quiet(),
    "pause": lambda jobs: jobs.pause("default"),
    "resume": lambda jobs: jobs.resume("default"),
    "add_queue": lambda jobs: jobs.add_queue("more", 2),
    "remove_queue": lambda jobs: jobs.remove_queue("default"),
    "unsubscribe_all": lambda jobs: jobs.unsubscribe_all(),
    "wake": lambda jobs: jobs.wake(),
    "health": lambda jobs: jobs.health(),
    "cancel": lambda jobs: jobs.cancel("nope"),
    "clear": lambda jobs: jobs.clear(force=True),
    "stop": lambda jobs: jobs.stop(0),
}
OF_CRON: dict[str, Call] = {
    "__call__": lambda jobs: jobs.cron(),
    "enable": lambda jobs: jobs.cron.enable("yearly"),
    "disable": lambda jobs: jobs.cron.disable("yearly"),
    "run_now": lambda jobs: jobs.cron.run_now("yearly"),
}
OF_ADMIN: dict[str, Call] = {
    "queues": lambda jobs: jobs.admin.queues(),
    "size": lambda jobs: jobs.admin.size("dead"),
    "stats": lambda jobs: jobs.admin.stats(),
    "jobs": lambda jobs: jobs.admin.jobs("dead"),
    "find": lambda jobs: jobs.admin.find("nope"),
    "search": lambda jobs: jobs.admin.search("dead", "nope"),
    "locate": lambda jobs: jobs.admin.locate("dead", ["x/1/nope"]),
    "processes": lambda jobs: jobs.admin.processes(),
    "busy": lambda jobs: jobs.admin.busy(),
    "retry": lambda jobs: jobs.admin.retry("nope"),
    "requeue": lambda jobs: jobs.admin.requeue("nope"),
    "kill": lambda jobs: jobs.admin.kill("nope"),
    "delete": lambda jobs: jobs.admin.delete("nope"),
    "retry_all": lambda jobs: jobs.admin.retry_all("dead"),
    "requeue_all": lambda jobs: jobs.admin.requeue_all("dead"),
    "kill_all": lambda jobs: jobs.admin.kill_all("retry"),
    "delete_all": lambda jobs: jobs.admin.delete_all("dead"),
    "clear": lambda jobs: jobs.admin.clear("dead"),
    "clear_all": lambda jobs: jobs.admin.clear_all(force=True),
    "cancel": lambda jobs: jobs.admin.cancel("nope"),
    "pause": lambda jobs: jobs.admin.pause("default"),
    "resume": lambda jobs: jobs.admin.resume("default"),
    "paused": lambda jobs: jobs.admin.paused(),
    "signal": lambda jobs: jobs.admin.signal(jobs.store.ident, "TSTP"),
    "quiet_process": lambda jobs: jobs.admin.quiet_process(jobs.store.ident),
    "stop_process": lambda jobs: jobs.admin.stop_process("nobody:1:2"),
    "prune": lambda jobs: jobs.admin.prune(),
    "reset_stats": lambda jobs: jobs.admin.reset_stats(),
}
REFUSED: dict[str, Call] = {
    "start": lambda jobs: jobs.start(),
    "async with": lambda jobs: jobs.__aenter__(),
    "client_only": lambda jobs: jobs.client_only().__aenter__(),
    "testing": lambda jobs: jobs.testing().__aenter__(),
    "lifespan": lambda jobs: jobs.lifespan(0).__aenter__(),
    "client_lifespan": lambda jobs: jobs.client_lifespan(0).__aenter__(),
    "lifespan_around": lambda jobs: jobs.lifespan_around(jobs.lifespan)(0).__aenter__(),
    "cleanup_ctx": lambda jobs: anext(aiter(jobs.cleanup_ctx(0))),
    "client_cleanup_ctx": lambda jobs: anext(aiter(jobs.client_cleanup_ctx(0))),
    "client.flush": lambda jobs: jobs.client.flush(),
    "client.push": lambda jobs: jobs.client.push(()),
    "store": lambda jobs: jobs.store.census.sizes(["default"]),
}
MORE = {"wait_stopped"}  # tested below
TABLES: dict[type, set[str]] = {
    App: {*OF_APP, *REFUSED, *MORE},
    Periodics: {*OF_CRON},
    Admin: {*OF_ADMIN},
}


def public_coroutines(cls: type) -> set[str]:
    names = {name for base in cls.__mro__ for name in vars(base)}
    public = {name for name in names if not name.startswith("_")} | {"__call__"}
    return {name for name in public if iscoroutinefunction(getattr(cls, name, None))}


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_the_tables_are_complete(cls: type) -> None:
    assert public_coroutines(cls) <= TABLES[cls]


HANDED_OVER = {
    f"{face}.{name}": call
    for face, table in (("app", OF_APP), ("cron", OF_CRON), ("admin", OF_ADMIN))
    for name, call in table.items()
}


@pytest.mark.parametrize("name", HANDED_OVER)
async def test_a_call_in_another_loop_is_handed_over(jobs: Jobs, name: str) -> None:
    """It never returned, and said nothing."""

    async def call() -> object:
        return await HANDED_OVER[name](jobs)

    await elsewhere(call)
    if jobs.started:
        await jobs.quiet(False)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_belongs_to_one_loop_is_refused_in_another(jobs: Jobs, name: str) -> None:
    async def call() -> object:
        return await REFUSED[name](jobs)

    with pytest.raises(LifecycleError, match=r"stop it first|in which its app|in its app's"):
        await elsewhere(call)
    assert (await jobs.enqueue(note.new(1))).state == "queued"


async def test_jobs_run_in_the_apps_loop_whoever_enqueues_them(jobs: Jobs) -> None:
    async def call() -> object:
        return await asyncio.gather(*[jobs.enqueue(note.new(n)) for n in range(20)])

    assert {receipt.state for receipt in await elsewhere(call)} == {"queued"}
    await eventually(lambda: len(loops) == 20, "the jobs")
    assert set(loops) == {asyncio.get_running_loop()}


async def test_who_waits_for_the_stop_in_another_loop_is_told(jobs: Jobs) -> None:
    waiting = asyncio.ensure_future(elsewhere(jobs.wait_stopped))
    await eventually(lambda: jobs._lifecycle._waiting == 1, "the wait")
    jobs._lifecycle.on_signal("TERM")
    await waiting


async def test_a_stream_is_read_in_another_loop(jobs: Jobs) -> None:
    opened = asyncio.Event()
    home = asyncio.get_running_loop()

    async def read() -> list[object]:
        async with jobs.events("job.enqueued") as stream:
            home.call_soon_threadsafe(opened.set)
            return [await anext(stream) for _ in range(3)]

    reading = asyncio.ensure_future(elsewhere(read))
    await opened.wait()
    for n in range(3):
        await jobs.enqueue(note.new(n))
    assert len(await reading) == 3


async def test_a_stream_is_read_in_the_loop_where_it_was_opened(jobs: Jobs) -> None:
    async with jobs.events() as stream:

        async def read() -> object:
            return await anext(stream)

        with pytest.raises(LifecycleError, match="opened in another event loop"):
            await elsewhere(read)


async def test_a_stream_whose_loop_was_closed_is_detached(jobs: Jobs) -> None:
    async def forget() -> object:
        return await jobs.events("job.enqueued").__aenter__()

    stream = await elsewhere(forget)
    await jobs.enqueue(note.new(1))
    assert not jobs._bus.has_listeners(type("JobEnqueued", (), {"name": "job.enqueued"}))
    del stream


async def test_a_cancel_is_passed_on(jobs: Jobs) -> None:
    await jobs.enqueue(waits.new(1))
    await asyncio.to_thread(began.wait, 20)

    async def call() -> None:
        stopping = asyncio.ensure_future(jobs.stop(grace=300))
        await eventually(lambda: not jobs.started, "the stop to begin")
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping

    await elsewhere(call)
    assert not jobs.started


async def test_an_error_arrives_where_it_was_called(jobs: Jobs) -> None:
    async def call() -> None:
        await jobs.remove_queue("nope")

    with pytest.raises(Exception, match="no queue 'nope' is worked on here"):
        await elsewhere(call)


# -- where no loop of asyncio runs


def test_an_app_whose_loop_stands_still_says_so(clean: TestServer) -> None:
    jobs = Jobs(redis_url=clean.url)
    home = asyncio.new_event_loop()
    home.run_until_complete(jobs.start())
    try:
        with pytest.raises(LifecycleError, match="another event loop, which does not run now"):
            asyncio.run(jobs.enqueue(note.new(1)))
        with pytest.raises(LifecycleError, match="which does not run now"):
            jobs.enqueue_sync(note.new(1))
        assert jobs.enqueue_nowait(note.new(1)).state == "buffered"
    finally:
        home.run_until_complete(jobs.stop())
        home.close()


async def test_enqueue_sync_never_blocks_a_loop(clean: TestServer) -> None:
    """In a Django async view, with an app that is not started, it blocked the view's loop."""
    jobs = Jobs(redis_url=clean.url)
    with pytest.raises(LifecycleError, match=r"await enqueue\(...\) within .*client_only"):
        jobs.enqueue_sync(note.new(1))
    assert not jobs.started
    async with jobs.client_only():
        with pytest.raises(LifecycleError, match=r"await enqueue\(...\)$"):
            jobs.enqueue_sync(note.new(1))


def test_without_a_loop_of_asyncio_one_sentence_says_what_to_do() -> None:
    """trio's tasks have none; the app said `is starting` for ever after."""
    jobs = Jobs(test_mode="sandbox")
    for _ in range(2):
        starting = jobs.start()
        with pytest.raises(LifecycleError, match="kiqpy runs in asyncio's event loop"):
            starting.send(None)
    asyncio.run(in_sandbox(jobs))


async def in_sandbox(jobs: App) -> None:
    async with jobs:
        await jobs.enqueue(note.new(1))


TRIO = """
import trio
from kiqpy import App, worker

@worker
async def note(n): ...

jobs = App(workers=[note], test_mode="sandbox")

async def main():
    try:
        async with jobs: ...
    except Exception as error:
        print(type(error).__name__, error)
    receipt = await trio.to_thread.run_sync(jobs.enqueue_sync, note.new(1))
    print(receipt.state)
    try:
        await jobs.enqueue(note.new(1))
    except Exception as error:
        print(type(error).__name__, error)

trio.run(main)
"""


def test_under_trio() -> None:
    pytest.importorskip("trio", reason="trio is no dependency of ours")
    ran = subprocess.run(
        [sys.executable, "-c", TRIO], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, state, last = ran.stdout.splitlines()
    assert first.startswith("LifecycleError kiqpy runs in asyncio's event loop")
    assert state == "queued"
    assert last.startswith("LifecycleError kiqpy runs in asyncio's event loop")

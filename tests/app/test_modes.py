"""Suites that start their app as in production: `test_mode`, `set_mode`, a scope for each test."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kiqpy import App, ConfigError, Discard, LifecycleError, Snooze, env, worker
from kiqpy.testing import assert_enqueued, enqueued, refute_enqueued, set_mode
from kiqpy.testing._sandbox.scope import Mode

pytestmark = pytest.mark.anyio

ran: list[Any] = []
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@worker(queue="mail")
async def welcome(user_id: int) -> None:
    ran.append((user_id, tenant.get()))


@worker(retry=1)
async def fail(n: int) -> None:
    raise ValueError(f"no {n}")


@worker
async def parent(n: int) -> None:
    await jobs.enqueue_many([welcome.new(k) for k in range(n)])
    ran.append("parent")


@worker
async def forever() -> None:
    await forever.enqueue()


@worker
async def signal(how: str) -> Any:
    return Snooze(60) if how == "snooze" else Discard(how)


@worker
async def hang() -> None:
    ran.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        ran.append("ended")


class Jobs(App):
    queues = {"default": 1, "mail": 1}
    workers = [welcome, fail, parent, forever, signal, hang]
    redis_url = "redis://127.0.0.1:1"  # nobody must ask


jobs = Jobs()


def app(mode: Mode, **changes: Any) -> App:
    """An app whose workers are nobody else's."""
    return App(test_mode=mode, redis_url="redis://127.0.0.1:1", **changes)


# -- kept in memory


@pytest.mark.parametrize("mode", ["sandbox", "fake"])
async def test_jobs_are_kept_and_nothing_runs(mode: Mode) -> None:
    async with app(mode) as kept:
        assert (await kept.enqueue(welcome.new(1))).state == "queued"
        assert (await kept.enqueue(welcome.new(2), in_=60)).state == "scheduled"
        kept.enqueue_nowait(fail.new(3))
        assert [job.args for job in enqueued(kept)] == [[1], [2], [3]]
        assert assert_enqueued(kept, welcome, args=[2], in_=60).jid
        refute_enqueued(kept, welcome, args=[3])
        assert await kept.store.census.sizes(["mail"]) == {
            "mail": 1, "schedule": 1, "retry": 0, "dead": 0,
        }  # fmt: skip
    assert ran == []
    assert_enqueued(kept, welcome, count=2)  # also when the app has stopped
    with pytest.raises(AssertionError, match=r"got none\.\nNearest: welcome\(1\)"):
        assert_enqueued(kept, welcome, args=[9])


async def test_no_variable_is_read_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    async with App(test_mode="sandbox", redis_url=env("NO_SUCH_URL"), embedded=False) as kept:
        await kept.enqueue(welcome.new(1))


async def test_a_test_sees_its_own_tasks_and_shared_sees_all() -> None:
    go, went = asyncio.Event(), asyncio.Event()

    async def background() -> None:
        await go.wait()
        await kept.enqueue(welcome.new(99))
        went.set()

    async with app("sandbox") as kept:
        other = asyncio.create_task(background())
        with set_mode(kept, "sandbox"):
            await kept.enqueue(welcome.new(1))
            await asyncio.create_task(_one(kept))
            await asyncio.to_thread(kept.enqueue_sync, welcome.new(3))
            go.set()
            await went.wait()
            assert [job.args for job in enqueued(kept)] == [[1], [2], [3]]
            refute_enqueued(kept, welcome, args=[99])
            assert_enqueued(kept, welcome, args=[99], scope="shared")
            with pytest.raises(AssertionError, match='1 such; scope="shared" sees them'):
                assert_enqueued(kept, welcome, args=[99])
        with set_mode(kept, "sandbox"):
            assert enqueued(kept) == []
            assert len(enqueued(kept, scope="shared")) == 4
        await other


async def _one(kept: App) -> None:
    await kept.enqueue(welcome.new(2))


async def test_an_inner_scope_is_part_of_the_outer() -> None:
    async with app("sandbox") as kept:
        with set_mode(kept, "sandbox"):
            await kept.enqueue(welcome.new(1))
            with set_mode(kept, "sandbox"):
                await kept.enqueue(welcome.new(2))
                assert len(enqueued(kept)) == 1
            assert len(enqueued(kept)) == 2


def test_a_plain_test_has_a_scope_too() -> None:
    kept = app("sandbox")
    with set_mode(kept, "sandbox"):
        asyncio.run(_session(kept, 1))
        assert_enqueued(kept, welcome, count=1)
    with set_mode(kept, "sandbox"):
        asyncio.run(_session(kept, 2))
        assert [job.args for job in enqueued(kept)] == [[2]]
    assert len(enqueued(kept)) == 2


async def _session(kept: App, n: int) -> None:
    async with kept:
        await kept.enqueue(welcome.new(n))


@pytest.mark.parametrize("mode", ["sandbox", "inline"])
def test_sync_code_needs_no_loop(mode: Mode) -> None:
    script = app(mode, workers=[welcome])
    with set_mode(script, mode):
        try:
            script.enqueue_sync(welcome.new(1))
            script.enqueue_nowait(welcome.new(2))
            assert_enqueued(script, welcome, count=2)
        finally:
            script.close_sync()
    assert len(ran) == (2 if mode == "inline" else 0)


async def test_a_service_under_test_starts_the_app_itself() -> None:
    """As a test client does: the service's lifespan around its requests."""
    fastapi = pytest.importorskip("fastapi", reason="fastapi is in the group `test`")
    kept = app("sandbox")
    service = fastapi.FastAPI(lifespan=kept.lifespan)

    @service.post("/signup")
    async def signup(user_id: int) -> str:
        return (await kept.enqueue(welcome.new(user_id))).state

    with set_mode(kept, "sandbox"):
        async with service.router.lifespan_context(service):
            assert await posted(service, "/signup", b"user_id=7") == b'"queued"'
            assert_enqueued(kept, welcome, args=[7], count=1)


async def posted(service: Any, path: str, query: bytes) -> bytes:
    """The body of the answer to a POST, by the ASGI protocol."""
    body: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        body.append(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query,
        "root_path": "", "headers": [], "client": None, "server": None,
    }  # fmt: skip
    await service(scope, receive, send)
    return b"".join(body)


async def test_duplicates_are_not_counted() -> None:
    @worker(unique_for=60)
    async def once() -> None: ...

    async with app("fake", workers=[once]) as kept:
        for _ in range(3):
            await once.enqueue()
            kept.enqueue_nowait(once.new())
        await kept.flush()
        assert_enqueued(kept, once, count=1)


# -- inline


@pytest.fixture
async def inline() -> Any:
    with set_mode(jobs, "inline"):
        async with jobs:
            yield jobs


async def test_inline_a_job_has_run_when_enqueue_returns(inline: App) -> None:
    tenant.set("shop")
    receipt = await welcome.enqueue(1)
    assert (receipt.state, len(receipt.jid)) == ("queued", 24)
    assert ran == [(1, "shop")]  # with the context of whoever enqueued it
    assert (await inline.enqueue(welcome.new(2), in_=3600)).state == "scheduled"
    assert [args for args, _ in ran] == [1, 2]
    assert_enqueued(inline, welcome, args=[2], in_=3600)
    assert await inline.store.census.sizes(["mail"]) == {
        "mail": 0, "schedule": 0, "retry": 0, "dead": 0,
    }  # fmt: skip


async def test_inline_errors_come_to_the_caller(inline: App) -> None:
    with pytest.raises(ValueError, match="no 1") as info:
        await fail.enqueue(1)
    assert any(entry.name == "fail" for entry in info.traceback)
    [entry] = await inline.store.census.page("retry", 0, 9)
    assert entry.job is not None
    assert entry.job.payload["error_message"] == "no 1"


async def test_inline_jobs_may_enqueue_into_their_own_queue(inline: App) -> None:
    await parent.using(queue="mail").enqueue(3)
    assert [item if item == "parent" else item[0] for item in ran] == [0, 1, 2, "parent"]
    with pytest.raises(RecursionError, match="does one enqueue itself"):
        await forever.enqueue()


async def test_inline_at_the_same_time(inline: App) -> None:
    await asyncio.gather(*(welcome.enqueue(n) for n in range(20)))
    assert sorted(n for n, _ in ran) == list(range(20))


async def test_inline_signals_are_no_errors(inline: App) -> None:
    await signal.enqueue("snooze")
    await signal.enqueue("enough")
    assert (await inline.store.census.sizes([]))["schedule"] == 1


async def test_inline_without_waiting_is_heard_at_the_flush(inline: App) -> None:
    inline.enqueue_nowait(welcome.new(1))
    inline.enqueue_nowait(fail.new(2))
    assert_enqueued(inline, welcome, args=[1])
    with pytest.raises(ValueError, match="no 2"):
        await inline.flush()
    assert [n for n, _ in ran] == [1]
    await inline.flush()


async def test_inline_a_cancelled_caller_takes_its_job_along(inline: App) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await hang.enqueue()
    assert ran == ["began", "ended"]


async def test_an_app_may_be_inline_by_its_options() -> None:
    async with app("inline", workers=[welcome]) as at_once:
        await at_once.enqueue(welcome.new(1))
    assert ran == [(1, "nobody")]


# -- changing


async def test_each_test_has_a_mode_of_its_own() -> None:
    async with app("sandbox", workers=[welcome]) as kept:
        with set_mode(kept, "inline"):
            await kept.enqueue(welcome.new(1))
            assert len(ran) == 1
        await kept.enqueue(welcome.new(2))
        assert len(ran) == 1


async def test_a_running_app_is_not_moved_to_or_from_a_server(redis_url: str) -> None:
    async with App(redis_url=redis_url, queues={"default": 1}) as real:
        with pytest.raises(LifecycleError, match="on a server"), set_mode(real, "sandbox"):
            pass
        with pytest.raises(LifecycleError, match="nothing is recorded"):
            assert_enqueued(real, welcome)
    async with app("fake") as kept:
        with pytest.raises(LifecycleError, match="in memory"), set_mode(kept, "redis"):
            pass
    with pytest.raises(ConfigError, match="give 'sandbox'"), set_mode(kept, "mock"):  # type: ignore[arg-type]
        pass


async def test_a_private_real_server() -> None:
    async with app("redis", workers=[welcome], queues={"mail": 1}) as real:
        folder = Path(unquote(_server_of(real))).parent
        assert folder.is_dir()
        done = asyncio.Event()
        real.attach("job.success", lambda _event: done.set())
        await real.enqueue(welcome.new(1))
        async with asyncio.timeout(20):
            await done.wait()
    assert ran == [(1, "nobody")]
    assert not folder.exists()


def _server_of(real: App) -> str:
    environment: Any = real._assembly._environment
    return str(environment._server._socket)


STARTS_IN_A_MODE = """
import asyncio
from kiqpy import App, worker

@worker
async def plain(): ...

async def main():
    async with App(workers=[plain], test_mode="inline") as jobs:
        print((await jobs.enqueue(plain.new())).state)

asyncio.run(main())
"""


def test_a_program_that_imports_nothing_of_testing_may_start_in_a_mode() -> None:
    """The import that registers the modes was missing: a test had always done it before."""
    command = [sys.executable, "-W", "error", "-c", STARTS_IN_A_MODE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.stdout, ran.stderr) == ("queued\n", "")

"""How an app says it is: before the start, in an outage, busy, broken, and as probes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kiqpy import App, ConfigError, worker
from kiqpy._flow.loop import Loop
from kiqpy.observe.health import Health, HealthCheck
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

CLIENT = ["app", "store", "buffer", "loops"]
SERVER = [*CLIENT, "lease", "queues", "event_loop", "threads", "processes"]
gate = threading.Event()


@worker(executor="thread")
def held() -> None:
    gate.wait(60)


class Jobs(App):
    queues = {"default": 5}
    workers = [held]


def check(health: Health, name: str) -> HealthCheck:
    return next(check for check in health.checks if check.name == name)


async def until(app: App, holds: Callable[[Health], bool], what: str) -> Health:
    """The first report of which that holds."""
    seen: list[Health] = []

    async def is_so() -> bool:
        seen.append(await app.health())
        return holds(seen[-1])

    await eventually(is_so, what)
    return seen[-1]


async def test_a_server_that_is_well_is_live_and_ready(redis_url: str) -> None:
    async with Jobs(redis_url=redis_url) as app:
        health = await app.health()
    assert [check.name for check in health.checks] == SERVER
    assert health.live
    assert health.ready
    assert health.failed() == ()


async def test_before_the_start_and_after_the_stop_it_is_live_and_not_ready(
    redis_url: str,
) -> None:
    app = Jobs(redis_url=redis_url)
    for state in ("new", "stopped"):
        health = await app.health()
        assert (health.live, health.ready) == (True, False)
        assert state in check(health, "app").why
        async with app:
            assert (await app.health()).ready


async def test_a_client_answers_without_a_lease_and_queues(clean: TestServer) -> None:
    app = Jobs(redis_url=clean.url, unready_after=0.1)
    async with app.client_only():
        health = await app.health()
        assert [check.name for check in health.checks] == CLIENT
        assert health.ready
        clean.kill()
        away = await until(app, lambda health: not health.ready, "an outage")
        assert away.live
        clean.start()
        assert (await until(app, lambda health: health.ready, "an answer")).failed() == ()


async def test_a_short_outage_is_told_of_and_a_long_one_makes_it_unready(
    clean: TestServer,
) -> None:
    async with Jobs(redis_url=clean.url, unready_after=3, heartbeat_interval=0.2) as app:
        clean.kill()
        short = await until(app, lambda health: not check(health, "store").ok, "an outage")
        assert check(short, "store").impairs is None
        assert short.live
        long = await until(app, lambda health: not health.ready, "a long outage")
        assert long.live
        assert check(long, "store").impairs == "ready"
        since = check(long, "store").since
        assert since is not None
        assert since == pytest.approx(check(short, "store").since, abs=1)
        clean.start()
        await until(app, lambda health: health.ready, "the end of the outage")


async def test_busy_is_not_stuck(redis_url: str) -> None:
    gate.clear()
    async with Jobs(redis_url=redis_url, threads=1, queues={"default": 1, "b": 1, "c": 1}) as app:
        for queue in ("default", "b", "c"):
            await app.enqueue(held.using(queue=queue).new())
        try:
            health = await until(app, lambda h: not check(h, "threads").ok, "a full pool")
            assert (
                check(health, "threads").why
                == "all threads are busy (1), and jobs wait for one (2)"
            )
            assert health.live
            assert health.ready
        finally:
            gate.set()
        await until(app, lambda health: health.failed() == (), "an idle pool")


async def test_pauses_and_quiet_are_told_of(redis_url: str) -> None:
    async with Jobs(redis_url=redis_url) as app:
        await app.pause("default")
        health = await until(app, lambda health: not check(health, "queues").ok, "a pause")
        assert check(health, "queues").why == "paused: default"
        await app.quiet()
        health = await app.health()
        assert "quiet" in check(health, "queues").why
        assert health.ready
        await app.resume("default")


async def test_a_part_that_broke_for_good_is_not_live(redis_url: str) -> None:
    app = Jobs(redis_url=redis_url)
    await app.start()
    before = (await app.health()).failed()
    app._lifecycle.on_failure(RuntimeError("a defect"))
    health = await app.health()
    await app.stop()
    assert before == ()
    assert not health.live
    assert not health.ready
    assert "RuntimeError('a defect')" in check(health, "app").why


class Odd(Loop):
    """Raises, hangs, or is cancelled, as it is told."""

    name = "odd"

    def __init__(self, how: str) -> None:
        self.how = how
        self.began = asyncio.Event()

    async def tick(self) -> float:
        self.began.set()
        if self.how == "raises":
            raise ValueError("a defect")
        if self.how == "ends":
            raise asyncio.CancelledError
        await asyncio.Event().wait()
        return 0.0


@pytest.mark.parametrize(
    ("how", "why", "ready"),
    [
        ("raises", "odd fails: ValueError('a defect')", True),
        ("ends", "odd has ended", False),
        ("hangs", "odd has been at one round for 70 s", False),
    ],
)
async def test_loops_that_fail_end_or_hang_are_named(how: str, why: str, ready: bool) -> None:
    app = Jobs()
    odd = Odd(how)
    async with app.testing() as t:
        engine = app._lifecycle.running()
        engine.loops._more = lambda: (odd,)
        await engine.loops.stop()
        await engine.loops.start()
        await odd.began.wait()
        await t.tick(70)
        health = await app.health()
    assert check(health, "loops").why == why
    assert health.ready is ready
    assert health.live


async def test_a_full_buffer_is_not_ready(clean: TestServer) -> None:
    app = Jobs(redis_url=clean.url, buffer_limit=2, unready_after=0)
    async with app.client_only():
        clean.kill()
        for _ in range(2):
            app.enqueue_nowait(held.new())
        health = await app.health()
        assert "full: 2 jobs" in check(health, "buffer").why
        assert check(health, "buffer").impairs == "ready"
        clean.start()
        await app.flush()


async def test_since_stays_while_it_lasts(redis_url: str) -> None:
    async with Jobs(redis_url=redis_url) as app:
        await app.quiet()
        first, again = await app.health(), await app.health()
        assert check(first, "queues").since == check(again, "queues").since is not None
        await app.quiet(False)
        assert check(await app.health(), "queues").since is None


# -- the probes


async def asked(app: App, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app.probes())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path)


async def test_the_probes_answer_under_any_path(redis_url: str) -> None:
    app = Jobs(redis_url=redis_url)
    assert (await asked(app, "GET", "/ready")).status_code == 503
    assert (await asked(app, "GET", "/live")).status_code == 200
    async with app:
        for path in ("/ready", "/health/ready", "/live/", "/a/b/live"):
            answer = await asked(app, "GET", path)
            assert answer.status_code == 200, path
            assert answer.headers["content-type"] == "application/json"
            told: dict[str, Any] = answer.json()
            assert (told["live"], told["ready"]) == (True, True)
            assert [each["name"] for each in told["checks"]] == SERVER


async def test_other_paths_and_methods_are_refused(redis_url: str) -> None:
    app = Jobs(redis_url=redis_url)
    assert (await asked(app, "GET", "/")).status_code == 404
    assert (await asked(app, "GET", "/readyness")).status_code == 404
    assert (await asked(app, "POST", "/live")).status_code == 405
    head = await asked(app, "HEAD", "/live")
    assert (head.status_code, head.content) == (200, b"")


async def test_they_can_be_mounted() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    mounted = Starlette(routes=[Mount("/health", app=Jobs().probes())])
    transport = httpx.ASGITransport(mounted)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503


async def test_a_server_that_serves_them_alone_gets_its_lifespan() -> None:
    asks = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    said: list[Any] = []

    async def receive() -> Any:
        return next(asks)

    async def send(message: Any) -> None:
        said.append(message["type"])

    await Jobs().probes()({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_report_is_json() -> None:
    health = Health((HealthCheck("app"), HealthCheck("store", False, "away", 17.5, "ready")))
    assert json.loads(health.to_json()) == {
        "live": True,
        "ready": False,
        "checks": [
            {"name": "app", "ok": True, "why": "", "since": None, "impairs": None},
            {"name": "store", "ok": False, "why": "away", "since": 17.5, "impairs": "ready"},
        ],
    }


def test_the_option_is_checked() -> None:
    with pytest.raises(ConfigError, match="unready_after"):
        Jobs(unready_after=-1)

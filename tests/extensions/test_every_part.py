"""An extension with every part: when each is asked, in which order, and when it is undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from kiqpy import App, Job, Reporter, StoreUnavailable, worker
from kiqpy._extensions.extension import Extension
from kiqpy._flow.loop import Loop
from kiqpy._reporting.bus import Handler
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate, JobCheck
from kiqpy.event import Event
from kiqpy.middleware import ClientMiddleware, Next, ServerMiddleware
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
said: list[str] = []


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


@worker
async def noop() -> None:
    said.append("job")


async def own_client_middleware(job: Job, call_next: Next) -> object:
    said.append("own client middleware")
    return await call_next(job)


async def own_middleware(job: Job, call_next: Next) -> object:
    said.append("own middleware")
    return await call_next(job)


class Everything(Extension):
    """Says what is asked of it."""

    def client_middleware(self) -> Sequence[ClientMiddleware]:
        async def middleware(job: Job, call_next: Next) -> object:
            said.append("client middleware")
            return await call_next(job)

        return (middleware,)

    def server_middleware(self) -> Sequence[ServerMiddleware]:
        async def middleware(job: Job, call_next: Next) -> object:
            said.append("middleware")
            return await call_next(job)

        return (middleware,)

    def contexts(self) -> Sequence[Callable[[Job], object]]:
        return (lambda _job: said.append("context"),)

    def checks(self) -> Sequence[JobCheck]:
        return (lambda _job: said.append("check"),)

    def gates(self, spec: Spec) -> Sequence[Gate]:
        said.append(f"gates of {spec.name}")

        def gate(run: Run) -> None:
            said.append("gate")
            run.hold(lambda: said.append("given back"))

        return (gate,)

    def reporters(self) -> Sequence[Reporter]:
        return (Says(),)

    def handlers(self) -> Sequence[tuple[str, Handler]]:
        return (("process.*", self._heard),)

    def _heard(self, event: Event) -> None:
        said.append(event.name)

    def loops(self) -> Sequence[Loop]:
        return (Ticks(),)


class Says(Reporter):
    def start(self) -> None:
        said.append("reporter started")

    def handle_stopped(self, job: Job) -> None:
        said.append("reported")

    def stop(self) -> None:
        said.append("reporter stopped")


class Ticks(Loop):
    name = "ticks"

    async def tick(self) -> float:
        said.append("tick")
        return 3600.0

    async def close(self) -> None:
        said.append("loop closed")


class Extended(App):
    workers = (noop,)
    middleware = (own_middleware,)
    client_middleware = (own_client_middleware,)
    _extensions = (Everything,)


async def test_each_part_has_its_place_and_is_undone(clean: TestServer) -> None:
    jobs = Extended(redis_url=clean.url)
    async with jobs:
        await eventually(lambda: "tick" in said, "the loop")
        assert said == ["reporter started", "process.started", "tick"]
        said.clear()
        await jobs.enqueue(noop.new())
        await eventually(lambda: "reported" in said, "the job")
        assert said == [
            *("client middleware", "own client middleware"),
            *("check", "gates of noop", "gate", "context", "middleware", "own middleware"),
            *("job", "given back", "reported"),
        ]
        said.clear()
    assert said == ["process.stopping", "loop closed", "reporter stopped", "process.stopped"]


async def test_each_start_makes_its_own_and_nothing_is_left_of_the_one_before(
    clean: TestServer,
) -> None:
    jobs = Extended(redis_url=clean.url)
    for _ in range(2):
        async with jobs:
            pass
    assert said.count("process.started") == said.count("process.stopped") == 2


async def test_an_app_that_only_enqueues_is_asked_for_no_loop_and_no_gate(
    clean: TestServer,
) -> None:
    async with Extended(redis_url=clean.url).client_only() as jobs:
        await jobs.enqueue(noop.new())
    assert said == [
        "reporter started",
        *("client middleware", "own client middleware"),
        "reporter stopped",
    ]


async def test_a_start_that_fails_leaves_no_handler_behind() -> None:
    jobs = Extended(redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        await jobs.start()
    assert not jobs._bus.listened

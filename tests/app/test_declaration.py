"""An app is declared by class, constructor and init hook; two apps share nothing."""

from __future__ import annotations

import types
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from kiqpy import App, Config, ConfigError, LifecycleError, Reporter, UnknownWorker, Worker, env
from kiqpy import worker as declare
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@declare(queue="mail")
async def send(n: int) -> None: ...


class Export(Worker):
    async def perform(self, n: int) -> None: ...


class Jobs(App):
    queues = {"default": 3, "mail": None}
    workers = [send, Export]
    shutdown_timeout = 7


def test_the_constructor_goes_before_the_class_and_the_class_before_the_default() -> None:
    assert Jobs().config.shutdown_timeout == 7
    assert Jobs(shutdown_timeout=timedelta(seconds=3)).config.shutdown_timeout == 3
    assert App().config.shutdown_timeout == 25
    assert App().config.queues == {"default": 25}


def test_a_subclass_changes_what_it_names() -> None:
    class Fewer(Jobs):
        queues = {"default": 1}

    assert Fewer().config.queues == {"default": 1}
    assert Fewer().config.shutdown_timeout == 7


async def test_the_init_hook_goes_before_the_constructor(redis_url: str) -> None:
    class Hooked(Jobs):
        def init(self, config: Config) -> Config:
            assert config.shutdown_timeout == 5
            return config.replace(redis_url=redis_url, shutdown_timeout=1, queues={"default": 1})

    async with Hooked(redis_url="redis://localhost:1/0", shutdown_timeout=5) as jobs:
        assert (await jobs.enqueue(Export.new(1))).state == "queued"


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_init_hook_may_decline(is_async: bool) -> None:
    class Shy(App):
        def init(self, config: Config) -> bool | Awaitable[bool]:
            async def later() -> bool:
                return False

            return later() if is_async else False

    jobs = Shy(redis_url="redis://localhost:1/0")
    with pytest.raises(
        LifecycleError, match=r"Shy\.init returned False: it does not want to start"
    ):
        await jobs.start()
    await jobs.stop()


async def test_an_async_init_hook_may_leave_all_as_it_is(redis_url: str) -> None:
    class Quiet(App):
        async def init(self, config: Config) -> None: ...

    async with Quiet(redis_url=redis_url):
        pass


async def test_env_is_read_when_the_app_starts(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read when the app was made, which for most programs is when a module is imported."""

    class Configured(App):
        redis_url = env("SHOP_REDIS")
        shutdown_timeout = env("SHOP_GRACE", cast=float, default=4)

    monkeypatch.delenv("SHOP_REDIS", raising=False)
    jobs = Configured()
    with pytest.raises(ConfigError, match="the environment variable SHOP_REDIS is not set"):
        await jobs.start()
    monkeypatch.setenv("SHOP_REDIS", redis_url)
    async with jobs:
        assert jobs.config.shutdown_timeout == 4
    monkeypatch.setenv("SHOP_GRACE", "3")
    async with jobs:
        assert jobs.config.shutdown_timeout == 3
    monkeypatch.setenv("SHOP_GRACE", "soon")
    with pytest.raises(ConfigError, match=r"SHOP_GRACE can't be read .*what float takes"):
        await jobs.start()


async def test_env_may_stand_in_the_place_of_a_queues_limit(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Configured(App):
        queues = {"default": env("SHOP_DEFAULT", cast=int, default=3), "mail": 5}

    jobs = Configured(redis_url=redis_url)
    async with jobs:
        assert jobs.subscriptions() == {"default": 3, "mail": 5}
    monkeypatch.setenv("SHOP_DEFAULT", "7")
    async with jobs:
        assert jobs.subscriptions() == {"default": 7, "mail": 5}


def test_a_list_of_queues_takes_the_concurrency() -> None:
    assert App(queues=["a", "b"], concurrency=4).config.queues == {"a": 4, "b": 4}
    assert App(queues=("a",)).config.queues == {"a": 25}

    class Listed(App):
        queues = ["x", "y"]
        concurrency = 2

    assert Listed().config.queues == {"x": 2, "y": 2}


def test_none_is_as_many_as_the_process_may_run() -> None:
    assert App(queues={"a": None}).config.queues == {"a": 10_000}
    assert App(queues={"a": None}, max_running=50).config.queues == {"a": 50}


def test_an_uncapped_queue_may_stand_beside_others() -> None:
    """`None` filled up `max_running`, so that any second queue was one too many."""
    assert Jobs().config.queues == {"default": 3, "mail": 9_997}
    assert App(queues={"a": None, "b": None, "c": 10}, max_running=50).config.queues == {
        "a": 20, "b": 20, "c": 10,
    }  # fmt: skip


async def test_a_url_may_be_asked_for(redis_url: str) -> None:
    async def later() -> str:
        return redis_url

    for given in (lambda: redis_url, later):
        async with App(redis_url=given) as jobs:
            assert (await jobs.enqueue(Export.new(1))).state == "queued"


def test_a_module_may_stand_for_its_workers() -> None:
    module = types.ModuleType("jobs")
    module.__dict__.update({"send": send, "Export": Export, "Worker": Worker, "other": 1})
    assert {spec.name for spec in App(workers=[module]).registry.specs()} == {"send", "Export"}


def named(said: list[str]) -> type[App]:
    """Two of these are different classes of the same name, as in two libraries."""

    @declare(name="work")
    async def work(n: int) -> None:
        said.append(f"{n}")

    class Library(App):
        workers = [work]
        queues = {"default": 2}

    return Library


async def test_two_apps_with_one_class_name_do_not_meet(redis_url: str, clean: TestServer) -> None:
    said: tuple[list[str], list[str]] = ([], [])
    heard: tuple[list[Any], list[Any]] = ([], [])
    one, other = (named(said[n])(redis_url=redis_url, namespace=f"app{n}:") for n in range(2))
    for app, events in zip((one, other), heard, strict=True):
        app.attach("job.success", events.append)
    async with one, other:
        assert one.store.ident != other.store.ident
        assert one.registry.find("work") is not other.registry.find("work")
        await one.enqueue(one.registry.find("work").new((1,), {}, one.registry.find("work").given))
        await eventually(lambda: said[0], "the first app's job")
        await eventually(lambda: heard[0], "the first app's event")
        assert said == (["1"], [])
        assert not heard[1]
        assert await other.store.census.sizes(["default"]) == {
            "default": 0, "schedule": 0, "retry": 0, "dead": 0,
        }  # fmt: skip
    clean.cli("FLUSHALL")  # the namespaces are this test's own


def test_workers_are_found_in_their_own_app_only() -> None:
    with pytest.raises(UnknownWorker):
        App(workers=[send]).registry.find("Export")


class Counting(Reporter):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1


async def test_reporters_may_be_classes_or_instances(redis_url: str) -> None:
    async with App(redis_url=redis_url, reporters=[Counting, Counting()]):
        assert Counting.made == 2

"""Every option, with every kind of value: it is refused where it is written, or it works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kiqpy import (
    App,
    ArgumentError,
    BlockingQueues,
    BufferFull,
    ConfigError,
    QueueGroup,
    env,
    worker,
)
from kiqpy._declare.env import read_env
from kiqpy._declare.options import Options
from kiqpy.config import NAMES
from kiqpy.queues import Queue
from tests.server import TestServer

T = TypeVar("T")
pytestmark = pytest.mark.anyio

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
VALUES: dict[str, object] = {
    "none": None, "true": True, "false": False, "negative": -1, "zero": 0, "one": 1, "half": 0.5,
    "milliseconds": 15_552_000_000, "huge": HUGE, "nan": NAN, "inf": INF, "empty": "",
    "text": "infinite", "bytes": b"x", "no list": [], "a list": ["x"], "none in a list": [None],
    "nested": [["retry"]], "a number in a list": [5], "no dict": {}, "a dict": {"x": 1},
    "odd dict": {"q": "infinite"}, "a set": {1}, "a class": object, "classes": [object],
    "an object": object(), "objects": [object()], "a duration": timedelta(seconds=5),
    "back in time": timedelta(seconds=-5), "a function": print, "a module": [sys],
}  # fmt: skip
ITSELF: dict[str, list[object]] = {  # what no general value is, and must work
    "queues": [{"default": 5}, ["default"], {"default": None}, {"default": Queue(3)},
               [QueueGroup(["default", "x-*"])], {"g": QueueGroup("default")}],
    "groups": [[QueueGroup(["a", "b"])]], "schedulers": ["retry", ["retry", "schedule"]],
    "namespace": ["shop:", "{shop}:"], "on_unflushed": ["log", "raise"],
    "leaked_tasks": ["cancel", "report", "ignore"], "test_mode": ["sandbox", "fake", "inline"],
    "start_log_level": ["debug"], "done_log_level": ["info"], "fail_log_level": ["critical"],
    "backoff": ["toniq", lambda _n, _e, _j: 5], "embedded_dir": [".kiqpy", Path("x")],
    "identity": ["host-1"], "redis_options": [{"socket_timeout": 5}], "dead_limit": [0, 1],
    "death_handlers": [[lambda _job, _error: None]],
}  # fmt: skip
_BYTES = ("max_payload", "buffer_bytes")  # a bound of one byte does what it says
APP_OPTIONS = [*(name for name in NAMES if name != "redis_url"), "concurrency"]


@worker
async def work() -> None: ...


def table(names: list[str]) -> list[Any]:
    rows = [(name, how, value) for name in names for how, value in VALUES.items()]
    own = [(n, f"own {at}", v) for n in names for at, v in enumerate(ITSELF.get(n, ()))]
    return [pytest.param(name, value, id=f"{name}-{how}") for name, how, value in rows + own]


def result_of(name: str, make: Callable[[], T]) -> T | None:
    """What `make` makes, or None if that was refused: by a ConfigError that names the option."""
    try:
        return make()
    except ConfigError as error:
        said, cause = str(error), error.__cause__
    assert any(word in said for word in (name, "queue", "called")), said
    assert cause is None
    return None


def declared(name: str, value: object, **more: Any) -> App | None:
    given: dict[str, Any] = {"workers": [work], **more, name: value}
    if name == "concurrency":
        given["queues"] = ["default"]
    return result_of(name, lambda: App(**given))


@pytest.mark.parametrize(("name", "value"), table(APP_OPTIONS))
async def test_an_option_is_refused_at_once_or_works(
    name: str, value: object, clean: TestServer
) -> None:
    app = declared(name, value, redis_url=clean.url)
    if app is None:
        assert not any(value is own for own in ITSELF.get(name, ()))
        return
    repr(app.config)
    async with app:
        with suppress(BufferFull, ArgumentError) if name in _BYTES else nullcontext():
            assert (await app.enqueue(work.new())).state in ("queued", "done")
    clean.cli("FLUSHALL")  # a namespace's keys are this test's own


@pytest.mark.parametrize(("name", "value"), table(APP_OPTIONS))
async def test_what_the_environment_says_is_checked_as_well(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not resolved within lists, and told by another error."""
    monkeypatch.setenv("SHOP", "x")
    later = declared(name, env("SHOP", cast=lambda _text: value))
    if name == "workers":  # whose jobs may be made before the start
        assert later is None
        return
    assert later is not None
    is_good = declared(name, value) is not None
    try:
        async with later.testing():
            assert is_good
    except ConfigError:
        assert not is_good


@pytest.mark.parametrize("name", [*Options.__dataclass_fields__])
@pytest.mark.parametrize("how", VALUES)
async def test_a_workers_option_is_refused_at_once_or_works(name: str, how: str) -> None:
    given: dict[str, Any] = {name: VALUES[how]}
    if name in ("unique_until", "unique_across", "unique_by"):
        given["unique_for"] = 5
    made = result_of(name, lambda: worker(**given)(_asynchronous))
    if made is None:
        return
    queue = "default" if made.spec.given.local else made.spec.given.queue
    lanes = BlockingQueues(queue) if made.spec.given.lane else 1
    app = App(queues={queue: lanes}, workers=[made])
    async with app.testing() as t:
        with suppress(ArgumentError) if name == "unique_by" else nullcontext():  # no key
            await app.enqueue(made.new())
        await t.drain()


async def _asynchronous() -> None: ...


NESTED: list[tuple[Callable[[], Any], Any]] = [
    (lambda: {"queues": [env("SHOP"), "b"]}, ["mail", "b"]),
    (lambda: {"queues": {env("SHOP"): 5}}, ["mail"]),
    (lambda: {"queues": {"a": Queue(env("N", cast=int))}}, ["a"]),
    (lambda: {"queues": [QueueGroup([env("SHOP"), "c"], env("N", cast=int))]}, ["mail", "c"]),
    (lambda: {"groups": [QueueGroup(env("SHOP"), mode="weighted",
                                    weights={"mail": env("N", cast=int)})], "queues": {}},
     ["mail"]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "queues"), NESTED)
async def test_the_environment_may_say_a_part(
    given: Callable[[], dict[str, Any]], queues: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", "mail")
    monkeypatch.setenv("N", "7")
    app = App(**given())
    async with app.testing():
        assert app.config.all_queues() == queues


async def test_the_environment_may_say_a_workers_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "mail")
    monkeypatch.setenv("N", "7")
    made = worker(queue=env("SHOP"), retry=env("N", cast=int), tags=[env("SHOP")])(_asynchronous)
    assert made.new().payload["queue"] == "mail"
    assert (made.spec.given.retry, made.spec.given.tags) == (7, ("mail",))


@pytest.mark.parametrize(
    ("text", "value"),
    [("false", False), ("0", False), ("No", False), ("off", False), ("", False), ("true", True),
     ("1", True), ("YES", True), ("on", True)],
)  # fmt: skip
def test_a_truth_is_read_as_people_write_it(
    text: str, value: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bool("false") is True."""
    monkeypatch.setenv("SHOP", text)
    assert read_env(env("SHOP", cast=bool)) is value


def test_a_default_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP", raising=False)
    assert read_env(env("SHOP", default=None)) is None
    assert read_env(env("SHOP", cast=float, default=None)) is None
    with pytest.raises(ConfigError, match="the environment variable SHOP is not set"):
        read_env(env("SHOP"))


def _raises(text: str) -> int:
    raise LookupError(text)


@pytest.mark.parametrize(("cast", "how"), [(int, "int"), (bool, "true or false"), (_raises, "_ra")])
def test_what_a_variable_holds_is_not_shown(
    cast: Callable[[str], object], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", "s3cr3t")
    with pytest.raises(
        ConfigError, match=rf"SHOP can't be read \(.*\): set it to .*{how}"
    ) as caught:
        read_env(env("SHOP", cast=cast))
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_none_caps_no_queue_of_a_list() -> None:
    assert App(queues=["a"], concurrency=None).config.queues == {"a": 10_000}
    with pytest.raises(ConfigError, match=r"queues\['q'\]='infinite': .*or None: as many as"):
        App(queues={"q": "infinite"})  # type: ignore[dict-item]


def test_a_dead_set_may_keep_none() -> None:
    assert App(dead_limit=0).config.dead_limit == 0


async def test_no_dead_job_is_kept_if_so_said(clean: TestServer) -> None:
    @worker(retry=0)
    async def fails() -> None:
        raise ValueError

    async with (
        App(redis_url=clean.url, workers=[fails], dead_limit=0) as jobs,
        jobs.events("job.dead") as stream,
    ):
        await jobs.enqueue(fails.new())
        await anext(stream)
    assert clean.cli("ZCARD", "dead") == 0

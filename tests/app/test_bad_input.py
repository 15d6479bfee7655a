"""Every mistake of a user is answered with one message that names the cause and the fix."""

from __future__ import annotations

import asyncio
import copy
import logging
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kiqpy import (
    App,
    ArgumentError,
    ConfigError,
    Job,
    LifecycleError,
    Snooze,
    StoreRefused,
    StoreUnavailable,
    UnknownWorker,
    Worker,
    current_job,
    worker,
)
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@worker
async def send(user_id: int, template: str = "plain", *, loud: bool = False) -> None: ...


@worker
def plain() -> None: ...


OPTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"shutdown_timout": 3},
        r"unknown option 'shutdown_timout'; did you mean 'shutdown_timeout'\?",
    ),
    ({"nonsense_xyz": 3}, r"unknown option 'nonsense_xyz'; known: .*queues"),
    ({"url": "redis://x"}, r"unknown option 'url'; did you mean 'redis_url'\?"),
    ({"max_retries": 3}, r"unknown option 'max_retries'; did you mean 'retry'\?"),
    ({"extra_reporters": []}, r"did you mean 'reporters'\?"),
    ({"node_id": "x"}, r"did you mean 'identity'\?"),
    ({"durability": "replicated"}, r"'durability': durability levels come in a later version"),
    ({"shutdown_timeout": 5000}, r"shutdown_timeout=5000: this is in seconds.*did you mean 5\?"),
    ({"heartbeat_interval": 5000}, r"in seconds, at most 60; did you mean 5\?"),
    ({"poll_interval": 500}, r"in seconds, at most 300; did you mean 0.5\?"),
    (
        {"shutdown_timeout": "25"},
        r"shutdown_timeout='25': give seconds \(a number\) or a timedelta",
    ),
    ({"shutdown_timeout": -1}, r"at least 0 seconds"),
    ({"timeout": timedelta(seconds=-1)}, r"timeout=-1.0: must be at least 0 seconds"),
    ({"heartbeat_interval": 20}, r"heartbeat_interval=20: at most half of lease_ttl=30"),
    ({"queues": "default"}, r"queues='default': give \{\"default\": 25\}"),
    ({"queues": {"default": 0}}, r"queues\['default'\]=0: give a whole number, 1 or more"),
    ({"queues": {"default": 2.5}}, r"queues\['default'\]=2.5: give a whole number"),
    ({"queues": {"a b": 1}}, r"queue name 'a b': use 1 to 128 of the characters"),
    ({"queues": {"a": 9000, "b": 9000}}, r"queues add up to 18,000 .* max_running=10,000"),
    ({"queues": {}}, r"kiqpy\.app\.App has no queues: set queues = \{\"default\": 25\}"),
    ({"queues": []}, r"has no queues: set queues"),
    ({"server": 1}, r"server=1: give True or False"),
    ({"retry": -1}, r"retry=-1: give True \(25 times\), False, or a number"),
    (
        {"backoff": "fast"},
        r"backoff='fast': give a callable\(count, error, job\) or one of.*sidekiq",
    ),
    ({"identity": "a|b"}, r"identity='a\|b': use 1 to 64 of"),
    ({"on_unflushed": "drop"}, r"on_unflushed='drop': give 'log' or 'raise'"),
    ({"schedulers": ["cron"]}, r"any of \"retry\" and \"schedule\""),
    ({"reporters": "Log"}, r"reporters='Log': give a list"),
    ({"redis_url": 6379}, r"redis_url=6379: give a URL such as redis://localhost:6379/0"),
    ({"workers": [print]}, r"give @worker functions, Worker classes, or modules that hold them"),
    ({"workers": [send, send]}, ""),
]


@pytest.mark.parametrize(("given", "message"), OPTIONS, ids=[str(given) for given, _ in OPTIONS])
def test_invalid_options(given: dict[str, Any], message: str) -> None:
    if not message:  # twice the same worker is once
        App(**given)
        return
    with pytest.raises(ConfigError, match=message):
        App(**given)


def test_a_class_attribute_that_is_surely_meant_as_an_option() -> None:
    class Old(App):
        max_retries = 5

    with pytest.raises(ConfigError, match="did you mean 'retry'"):
        Old()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", r"it must begin with redis:// or rediss:// or unix://"),
        ("http://localhost", r"redis_url='http://\*\*\*': it must begin with"),
        ("redis://localhost:port/0", r"'redis://\*\*\*': its host or port can't be read"),
        ("redis://:secret@localhost:port/0", r"redis://\*\*\*': its host or port"),
    ],
)
async def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        await App(redis_url=url).start()
    assert "secret" not in str(caught.value)


async def test_no_url_where_none_may_be_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KIQPY_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no redis_url, no REDIS_URL, and embedded=False: set"):
        await App(embedded=False).start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_server_that_is_away_at_the_start(tmp_path: Path) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}/0", f"unix://{tmp_path}/none.sock"):
        for server in (True, False):
            jobs = App(redis_url=url, server=server)
            with pytest.raises(StoreUnavailable, match="gave no answer") as caught:
                await asyncio.wait_for(jobs.start(), 10)
            assert (urlsplit(url).netloc or str(tmp_path)) in str(caught.value)
            await jobs.stop()


async def test_a_wrong_password(clean: TestServer, redis_url: str) -> None:
    clean.cli("CONFIG", "SET", "requirepass", "right")
    try:
        for url in (redis_url, "unix://:wrong-secret@" + redis_url.removeprefix("unix://")):
            with pytest.raises(
                StoreRefused, match=r"refused the password or user .*check the URL"
            ) as caught:
                await App(redis_url=url).start()
            assert "wrong-secret" not in str(caught.value)
    finally:
        clean.cli("AUTH", "right")
        clean.cli("CONFIG", "SET", "requirepass", "")


# -- workers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queu": "x"}, r"unknown worker option 'queu'; did you mean 'queue'\?"),
        ({"max_retries": 3}, r"did you mean 'retry'\?"),
        ({"max_attempts": 3}, r"did you mean 'retry'\?"),
        ({"result_ttl": 60}, r"'result_ttl': results come in a later version of kiqpy"),
        ({"local": 7}, r"local=7: give True or False"),
        ({"queue": "a b"}, r"queue name 'a b'"),
        ({"timeout": -1}, r"timeout=-1: must be at least 0 seconds"),
        ({"timeout": "1"}, r"timeout='1': give seconds"),
        ({"retry": "3"}, r"retry='3': give True \(25 times\), False, or a number of retries"),
        ({"tags": "a"}, r"tags='a': give a list of strings"),
        ({"executor": "fiber"}, r"executor='fiber': give 'async', 'thread' or 'process'"),
        ({"executor": "thread"}, r"send: executor=\"thread\" needs a plain `def`"),
        ({"backoff": "sidekick"}, r"backoff='sidekick': give a callable"),
    ],
)
def test_invalid_worker_options(given: dict[str, Any], message: str) -> None:
    async def send() -> None: ...

    with pytest.raises(ConfigError, match=message):
        worker(**given)(send)
    with pytest.raises(ConfigError):
        worker(send).using(**given)


@pytest.mark.parametrize(
    "given",
    [{"name": "x"}, {"executor": "thread"}, {"max_concurrency": 2}, {"unique_by": lambda n: n}],
)
def test_an_option_that_no_job_carries_is_not_dropped_in_silence(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"=\.\.\.\): no job carries it, declare it with"):
        send.using(**given)


def test_a_plain_function_can_not_be_async() -> None:
    with pytest.raises(ConfigError, match='executor="async" needs `async def`'):
        worker(executor="async", name="w")(lambda: None)


def test_a_worker_without_perform() -> None:
    with pytest.raises(ConfigError, match="Empty: a worker needs a method `perform`"):

        class Empty(Worker):
            pass


def test_two_workers_with_one_name() -> None:
    @worker(name="send")
    async def other() -> None: ...

    with pytest.raises(ConfigError, match=r"two workers are called 'send'; give one .* name="):
        App(workers=[send, other])

    @worker(aliases=["send"])
    async def third() -> None: ...

    with pytest.raises(ConfigError, match="two workers are called 'send'"):
        App(workers=[send, third])


def test_an_unknown_worker() -> None:
    with pytest.raises(
        UnknownWorker, match=r"no worker is called 'sned'; did you mean 'send'\? Add"
    ):
        App(workers=[send]).registry.find("sned")


async def test_an_unknown_worker_in_redis_is_retried_and_logged(
    redis_url: str, clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="kiqpy")
    async with App(redis_url=redis_url, workers=[send]) as jobs:
        await jobs.enqueue(Job("sned", [1]))
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "the retry")
        await eventually(lambda: "did you mean 'send'?" in caplog.text, "the line")


# -- arguments


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), r"send\(user_id: .*\): missing a required argument: 'user_id'"),
        ((1, "a", 3), "too many positional arguments"),
        ((object(),), r"argument 'user_id' is a object: jobs carry JSON only"),
        ((1, b"bytes"), r"argument 'template' is a bytes: jobs carry JSON only"),
        (({1, 2},), "argument 'user_id' is a set"),
        (((1, 2),), "argument 'user_id' is a tuple"),
        ((float("nan"),), r"argument 'user_id' is nan, which JSON has no word for"),
        ((2**65,), r"argument 'user_id' does not fit 64 bits: pass a string"),
        (({1: 2},), r"argument 'user_id' has a key that is not a string"),
        (("\ud800",), r"argument 'user_id' holds a lone surrogate"),
        ((datetime(2030, 1, 1),), "argument 'user_id' is a datetime"),  # noqa: DTZ001
    ],
)
def test_arguments_that_do_not_fit_or_can_not_travel(args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        send.new(*args)


@pytest.mark.parametrize("name", ["delay", "apply_async", "kiq", "perform_async", "perform_in"])
def test_another_librarys_way_to_enqueue_is_answered_with_ours(name: str) -> None:
    class Export(Worker):
        async def perform(self) -> None: ...

    for found, called in ((send, "send"), (Export, "Export")):
        assert not hasattr(found, name)
        with pytest.raises(AttributeError, match=rf"say `await {called}\..*enqueue\(\.\.\.\)`"):
            getattr(found, name)


def test_a_worker_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match=r"worker 'send' has no attribute 'nothing'$"):
        send.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert copy.copy(send).spec is send.spec


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("priority", "QueueGroup"),
        ("unique", "unique_for="),
        ("countdown", "in_=seconds"),
        ("cron", "periodics"),
        ("delay_for", "in_=seconds"),
        ("rate_limit", "did you mean 'max_concurrency'"),
    ],
)
def test_an_option_that_is_called_otherwise_here(option: str, hint: str) -> None:
    for declare in (worker, send.using):
        with pytest.raises(ConfigError, match=hint):
            declare(**{option: 5})


@pytest.mark.parametrize("wrong", ["5m", None, True, float("nan")])
def test_a_snooze_for_no_time(wrong: Any) -> None:
    with pytest.raises(TypeError, match="give seconds"):
        Snooze(wrong)


def test_no_job_runs_outside_of_one() -> None:
    assert current_job(None) is None
    with pytest.raises(LookupError, match=r"no job runs here; current_job\(None\)"):
        current_job()


def test_unknown_keywords() -> None:
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'quiet'"):
        send.new(1, quiet=True)  # type: ignore[call-arg]


# -- calls


async def test_calls_that_can_not_be_meant(redis_url: str) -> None:
    async with App(redis_url=redis_url).client_only() as jobs:

        async def refused(job: Any, message: str, **when: Any) -> None:
            with pytest.raises((ArgumentError, ConfigError), match=message):
                await jobs.enqueue(job, **when)

        await refused("send", r"enqueue takes a job, not 'send': make one with worker\.new")
        await refused(send, r"enqueue takes a job, not <worker send>: make one with worker\.new")
        job = send.new(1)
        naive = datetime(2030, 1, 1)  # noqa: DTZ001
        await refused(job, r"has no time zone: use datetime\.now\(timezone\.utc\)", at=naive)
        await refused(job, r"at=1900000000000.*is it milliseconds\?", at=1_900_000_000_000)
        await refused(job, "at='soon': give an aware datetime or epoch seconds", at="soon")
        await refused(job, "in_=-1: must be at least 0 seconds", in_=-1)
        await refused(job, "in_='1': give seconds", in_="1")
        await refused(job, "give in_ or at, not both", in_=1, at=1.0)
        job.payload["queue"] = "a b"
        await refused(job, "queue name 'a b': use 1 to 128 of")
        await refused(Job("x", ["y" * 2**20]), "more than max_payload=1,048,576: pass a reference")
        assert jobs.client.snapshot().buffered == 0
        with pytest.raises(
            LifecycleError, match=r"would block the event loop of this thread: await enqueue"
        ):
            jobs.enqueue_sync(send.new(1))
        with pytest.raises(ConfigError, match="has no time zone"):
            send.using(at=naive)


async def test_enqueue_before_the_start(redis_url: str) -> None:
    jobs = App(redis_url=redis_url)
    with pytest.raises(
        LifecycleError, match=r"not started: use `async with app:`, or enqueue_sync"
    ):
        await jobs.enqueue(send.new(1))


def test_current_job_outside_of_a_job() -> None:
    from kiqpy import current_job

    with pytest.raises(LookupError):
        current_job()

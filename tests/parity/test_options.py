"""docs/parity.md, 1.1: options, their defaults, and what the ancestors' own names are answered."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from kiqpy import App, ConfigError, Periodic, QueueGroup, worker
from kiqpy._payload.json import encode
from kiqpy.event import JobDead, JobFailure, JobStarted, JobSuccess, LeaderElected, ProcessStarted
from tests.eventually import eventually
from tests.parity.parity_app import House, Shop, counts, fails, let_go, note, ran, waits

pytestmark = pytest.mark.anyio


# -- names and units

OLD: list[tuple[str, Any, str]] = [
    # Kiq
    ("client_opts", [], r'redis_url="redis://\.\.\." and redis_options'),
    ("client_name", "x", "called like its class"),
    ("pool_name", "x", "called like its class"),
    ("registry_name", "x", "called like its class"),
    ("reporter_name", "x", "called like its class"),
    ("senator_name", "x", "called like its class"),
    ("name", "x", "called like its class"),
    ("server?", True, r"did you mean 'server'\?"),
    ("stats_flush_interval", 1000, "counted with each outcome"),
    ("extra_reporters", [], r"did you mean 'reporters'\?"),
    # Exq
    ("host", "x", "part of redis_url"),
    ("port", 6379, "part of redis_url"),
    ("database", 0, "part of redis_url"),
    ("password", "x", "part of redis_url"),
    ("url", "redis://x", r"did you mean 'redis_url'\?"),
    ("socket_opts", [], "redis_options"),
    ("redis_timeout", 5000, r"redis_options=\{'socket_timeout': seconds\}"),
    ("genserver_timeout", 5000, r"redis_options=\{'socket_timeout': seconds\}"),
    ("poll_timeout", 100, r"did you mean 'fetch_interval', in seconds\?"),
    ("scheduler_enable", False, r"schedulers=\[\]"),
    ("scheduler_poll_timeout", 200, r"did you mean 'poll_interval', in seconds\?"),
    ("scheduler_page_size", 10, "a hundred at a time"),
    ("mode", "enqueuer", "server=False"),
    ("start_on_application", True, "async with jobs:"),
    ("max_retries", 25, r"did you mean 'retry'\?"),
    ("dead_max_jobs", 10, r"did you mean 'dead_limit'\?"),
    ("dead_timeout_in_seconds", 10, r"did you mean 'dead_timeout'\?"),
    ("node_identifier", "x", r"did you mean 'identity'\?"),
    ("heartbeat_enable", True, "identity of its own and a heartbeat; see lease_ttl"),
    ("missed_heartbeats_allowed", 5, "say lease_ttl="),
    ("stats_batch_size", 2000, "counted with each outcome"),
    ("serializer", "x", r"codecs=\[\.\.\.\]"),
    ("json_library", "x", r"codecs=\[\.\.\.\]"),
    ("queue_adapter", "x", 'test_mode="sandbox"'),
    # Verk
    ("workers_manager_timeout", 1000, r"did you mean 'fetch_interval', in seconds\?"),
    ("max_retry_count", 25, r"did you mean 'retry'\?"),
    ("max_dead_jobs", 100, r"did you mean 'dead_limit'\?"),
    ("node_id", "1", r"did you mean 'identity'\?"),
    ("generate_node_id", True, "an identity of its own"),
    ("local_node_id", "1", r"did you mean 'identity'\?"),
    ("heartbeat", 30_000, r"did you mean 'heartbeat_interval', in seconds\?"),
    ("args_keys", "atoms", r"codecs=\[\.\.\.\]"),
    ("failed_job_stacktrace_size", 5, r"did you mean 'backtrace'\?"),
    ("start_job_log_level", "info", r"did you mean 'start_log_level'\?"),
    ("done_job_log_level", "info", r"did you mean 'done_log_level'\?"),
    ("fail_job_log_level", "info", r"did you mean 'fail_log_level'\?"),
    # Toniq
    ("redis_url_provider", print, r"did you mean 'redis_url'\?"),
    ("redis_key_prefix", "toniq", r"did you mean 'namespace'\?"),
    ("delay_flush_interval", 100, r"did you mean 'poll_interval', in seconds\?"),
    ("disable_import", True, "local jobs come in a later version"),
    ("job_import_interval", 2000, "local jobs come in a later version"),
    ("retry_strategy", "x", r"did you mean 'backoff'\?"),
    ("keepalive_interval", 4000, r"did you mean 'heartbeat_interval', in seconds\?"),
    ("keepalive_expiration", 10_000, r"did you mean 'lease_ttl', in seconds\?"),
    ("takeover_interval", 2000, r"did you mean 'suspicion', in seconds\?"),
    # Queuetopia
    ("repo", "x", "keeps its jobs in Redis"),
    ("otp_app", "x", "called like its class"),
    ("scope", "x", r"did you mean 'namespace'\?"),
    ("disable?", True, "server=False"),
    ("max_attempts", 20, r"did you mean 'retry'\?"),
    ("cleanup_interval", 1, "comes with blocking queues"),
    ("job_retention", 7, "comes with blocking queues"),
    ("job_cleaner_max_initial_delay", 1000, "comes with blocking queues"),
    ("number_of_concurrent_jobs", 5, r"did you mean 'max_running'\?"),
    # exq_scheduler
    ("schedules", [], r"did you mean 'periodics'\?"),
    ("missed_jobs_window", 10_800_000, r"misfire="),
    ("time_zone", "UTC", r"tz="),
    ("key_expire_padding", 86_400, "as long as their entry"),
    ("storage", [], "where the jobs are"),
]


@pytest.mark.parametrize(("name", "value", "message"), OLD, ids=[name for name, *_ in OLD])
def test_1_1_an_old_name_is_answered_with_the_new_one(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option '{re.escape(name)}'; .*{message}"):
        App(**{name: value})


@pytest.mark.parametrize("name", ["queue_adapter", "heartbeat_enable", "poll_timeout", "repo"])
def test_1_1_an_old_name_as_a_class_attribute_is_not_dropped_in_silence(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option '{name}'"):
        type("Old", (App,), {name: 5})()


def test_1_1_a_misspelt_class_attribute_is_not_dropped_in_silence() -> None:
    for name, meant in (("shutdown_timout", "shutdown_timeout"), ("queus", "queues")):
        with pytest.raises(ConfigError, match=f"unknown option '{name}'; .* '{meant}'"):
            type("Typo", (App,), {name: 3})()
    mine = {"title": "x", "_queues": 3, "worker": print, "queue": property(lambda _self: 1)}
    assert type("Mine", (App,), mine)().config.queues == {"default": 25}


def test_1_1_exqs_pairs_are_answered_with_a_dict() -> None:
    with pytest.raises(ConfigError, match=r'names with limits are a dict, \{"mail": 5\}'):
        App(queues=["default", ("mail", 5)])


def test_1_1_a_plain_word_may_be_a_class_attribute_of_ones_own() -> None:
    assert type("Mine", (App,), {"mode": "fast", "host": "x"})().config.server is True


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("fetch_interval", 500, "0.5"),
        ("flush_interval", 10, "0.01"),
        ("poll_interval", 5000, "5"),
        ("elect_ttl", 60_000, "60"),
        ("heartbeat_interval", 60_000, "60"),
        ("shutdown_timeout", 5000, "5"),
        ("lease_ttl", 30_000, "30"),
        ("confirm_timeout", 5000, "5"),
        ("push_timeout", 5000, "5"),
        ("suspicion", 10_000, "10"),
    ],
)
def test_1_1_an_ancestors_milliseconds_are_refused(name: str, value: int, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}={value}: this is in seconds.* mean {meant}\?"):
        App(**{name: value})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_retry_count", "retry"), ("retry_at", "backoff"), ("unique_token", "unique_by"),
        ("max_backoff", "backoff"), ("failed_job_stacktrace_size", "backtrace"),
        ("max_retries", "retry"), ("max_attempts", "retry"),
    ],
)  # fmt: skip
def test_1_1_old_names_of_worker_options(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown worker option '{name}'; .*'{hint}'"):
        worker(**{name: 1})


def test_1_1_what_comes_later_says_so() -> None:
    for given in ({"durability": "replicated"}, {"on_unflushed": "spool"}):
        with pytest.raises(ConfigError, match="in a later version"):
            App(**given)
    with pytest.raises(ConfigError, match="in a later version"):
        worker(result_ttl=60)


def test_1_1_the_defaults() -> None:
    config = App().config
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


DEFAULTS: dict[str, Any] = {
    "queues": {"default": 25}, "pool_size": 5, "server": True, "fetch_interval": 0.5,
    "flush_interval": 0.01, "schedulers": ("retry", "schedule"), "dead_limit": 10_000,
    "dead_timeout": 15_552_000.0, "shutdown_timeout": 25.0, "heartbeat_interval": 5.0,
    "lease_ttl": 30.0, "elect_ttl": 60.0, "identity": None, "namespace": "", "retry": True,
    "backoff": "sidekiq", "max_payload": 2**20, "max_running": 10_000, "stuck_after": 900.0,
    "confirm_timeout": 5.0, "periodics": (), "reporters": (), "middleware": (), "workers": (),
    "test_mode": None, "timeout": None, "redis_url": None, "embedded": True, "slow_after": None,
    "on_unflushed": "log", "leaked_tasks": "report", "suspicion": 10.0,
}  # fmt: skip


def test_1_1_a_concurrency_that_would_be_ignored_is_refused() -> None:
    assert App(queues=["a"], concurrency=7).config.queues == {"a": 7}
    for given in ({"concurrency": 7}, {"concurrency": 7, "queues": {"a": 1}}):
        with pytest.raises(ConfigError, match="concurrency=7 has no effect on queues="):
            App(**given)


# -- what the options do


async def test_1_1_redis_options_reach_the_client(house: House) -> None:
    async with house.client(redis_options={"client_name": "the-shop"}):
        assert "name=the-shop" in house.cli("CLIENT", "LIST")


async def test_1_1_the_pool_is_bounded(house: House) -> None:
    async with house.client(pool_size=2, redis_options={"client_name": "pooled"}) as shop:
        await asyncio.gather(*(shop.admin.size("retry") for _ in range(30)))
        assert house.cli("CLIENT", "LIST").count("name=pooled") == 2
    with pytest.raises(ConfigError, match="pool_size=0"):
        App(pool_size=0)


async def test_1_1_every_key_is_in_the_namespace(house: House) -> None:
    async with house.open(namespace="shop:") as shop:
        await shop.enqueue_many([note.using(unique_for=60, in_=60).new(1), waits.new(2)])
        await shop.enqueue(fails.new(3))
        await house.told(JobFailure)
        await house.told(JobStarted, 2)
        assert [key for key in house.keys("*") if not key.startswith("shop:")] == []
        assert {"shop:retry", "shop:schedule", "shop:queues"} <= set(house.keys("*"))
        let_go()
        await house.told(JobSuccess)
    house.cli("FLUSHALL")  # the namespace is this test's own


async def test_1_1_poll_interval_is_how_late_another_programs_job_may_be(house: House) -> None:
    """By hand, so that no push wakes the promoter; with the default it took a second each."""
    async with house.open(poll_interval=0.05) as shop:
        began = time.monotonic()
        for n in range(6):
            job = note.new(n)
            job.payload["jid"] = f"jid{n}"
            house.cli("ZADD", "schedule", 1, encode(job.payload))
            await house.told(JobSuccess, n + 1)
        assert time.monotonic() - began < 3
        assert shop.config.poll_interval == 0.05
    assert ran == [0, 1, 2, 3, 4, 5]


async def test_1_1_schedulers_may_leave_a_set_to_others(house: House) -> None:
    for schedulers, promoted in (([], set()), (["retry"], {"retry"}), (["schedule"], {"schedule"})):
        house.cli("FLUSHALL")
        ran.clear()
        async with house.open(schedulers=schedulers, poll_interval=0.02) as shop:
            for key in ("retry", "schedule"):
                job = note.new(key)
                job.payload["jid"] = key
                house.cli("ZADD", key, 1, encode(job.payload))
            await shop.wake()
            await eventually(lambda want=promoted: set(ran) == want, f"{promoted}")
            await shop.enqueue(note.new("now"))
            await eventually(lambda: "now" in ran, "another job")
        left = {key for key in ("retry", "schedule") if house.cli("ZCARD", key) == 1}
        assert left == {"retry", "schedule"} - promoted
        assert set(ran) == {"now"} | promoted


async def test_1_1_without_server_nothing_is_run(house: House) -> None:
    async with Shop(redis_url=house.server.url, server=False) as shop:
        assert (await shop.enqueue(note.new(1))).state == "queued"
        assert await shop.admin.processes() == []
        assert house.keys("kiq:lease:*") == []
    assert len(house.payloads("queue:default")) == 1
    assert ran == []


async def test_1_1_retry_and_backoff_of_the_app(house: House) -> None:
    async with house.open(retry=2, backoff="immediate") as shop:
        await shop.enqueue(counts.new())
        dead = await house.told(JobDead)
    assert ran == [1, 2, 3]
    assert dead.job.payload["retry"] == 2


async def test_1_1_dead_limit_and_dead_timeout(house: House) -> None:
    house.cli("ZADD", "dead", house.now() - 100, encode({"class": "Old", "args": [], "jid": "o"}))
    async with house.open(dead_limit=2, dead_timeout=60, retry=0) as shop:
        await shop.enqueue(fails.new(1))
        await house.told(JobDead, 1)
        await eventually(lambda: [p["args"] for p in house.payloads("dead")] == [[1]], "only it")
        await shop.enqueue_many([fails.new(n) for n in (2, 3, 4)])
        await house.told(JobDead, 4)
        await eventually(lambda: house.cli("ZCARD", "dead") == 2, "two dead jobs")


async def test_1_1_identity(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO", "web.1")
    async with house.open(), house.open(identity="till"):
        first, second = [event.identity for event in house.of(ProcessStarted)]
        assert re.fullmatch(r"web\.1:\d+:[0-9a-f]{12}", first)
        assert re.fullmatch(r"till:\d+:[0-9a-f]{12}", second)
        assert {first, second} == set(house.cli("SMEMBERS", "processes"))
    async with house.open():
        assert house.of(ProcessStarted)[-1].identity != first


async def test_1_1_heartbeat_interval_and_lease_ttl(house: House) -> None:
    async with house.open(heartbeat_interval=0.1, lease_ttl=7) as shop:
        key = f"kiq:lease:{shop.store.ident}"
        assert 0 < house.cli("PTTL", key) <= 7000
        house.cli("PEXPIRE", key, 3000)
        await eventually(lambda: house.cli("PTTL", key) > 5000, "the next heartbeat")


async def test_1_1_elect_ttl(house: House) -> None:
    async with house.open(elect_ttl=9, periodics=[Periodic("@daily", note)]):
        await house.told(LeaderElected)
        [key] = house.keys("kiq:leader*")
        assert 0 < house.cli("PTTL", key) <= 9000


async def test_1_1_concurrency_is_per_queue(house: House) -> None:
    async with house.open(queues={"default": 2, "mail": 1}) as shop:
        jobs = [waits.new(n) for n in range(4)]
        await shop.enqueue_many([*jobs, *(waits.using(queue="mail").new(9) for _ in range(3))])
        await house.told(JobStarted, 3)
        assert sorted(ran) == [0, 1, 9]
        assert len(house.payloads("queue:default")) == len(house.payloads("queue:mail")) == 2
        let_go()
        await house.told(JobSuccess, 7)


async def test_1_1_uncapped_queues(house: House) -> None:
    async with house.open(queues={"default": None}) as shop:
        await shop.enqueue_many([waits.new(n) for n in range(200)])
        await house.told(JobStarted, 200)
        let_go()
        await house.told(JobSuccess, 200)


async def test_1_1_queues_that_share_a_limit(house: House) -> None:
    """Queuetopia's number_of_concurrent_jobs."""
    async with house.open(queues=[QueueGroup(["default", "mail"], concurrency=2)]) as shop:
        mails = [waits.using(queue="mail").new(n) for n in range(3)]
        await shop.enqueue_many([*mails, waits.new(9), waits.new(9)])
        await house.told(JobStarted, 2)
        assert len(ran) == 2
        assert len(house.payloads("queue:default")) + len(house.payloads("queue:mail")) == 3
        let_go()
        await house.told(JobSuccess, 5)

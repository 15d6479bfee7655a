"""What Sentry gets to know of jobs, with its real SDK and a transport that keeps envelopes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from kiqpy import App, Discard, Job, Kill, Snooze, worker
from kiqpy.errors import ConfigError
from kiqpy.middleware import Next
from kiqpy.observe.sentry import SentryReporter
from kiqpy.reporter import Reporter
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

SECRET = "4111-1111"


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__({"dsn": "https://key@sentry.invalid/1"})
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def events(self) -> list[dict[str, Any]]:
        found = [envelope.get_event() for envelope in self.envelopes]
        return [dict(event) for event in found if event is not None]

    def one(self) -> dict[str, Any]:
        [event] = self.events()
        return event


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=kept, default_integrations=False)
    yield kept
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@worker(retry=0, queue="mail")
async def pays(card: str) -> None:
    sentry_sdk.set_tag("shop", "Oslo")
    sentry_sdk.add_breadcrumb(message="looked up the price")
    raise ValueError("refused")


@worker(retry=0, executor="thread")
def pays_in_thread(card: str) -> None:
    sentry_sdk.set_tag("shop", "Oslo")
    raise ValueError("refused")


@worker(retry=0, executor="process")
def pays_in_child(card: str) -> None:
    raise ValueError("refused")


@worker(retry=1)
async def fails_twice() -> None:
    raise OSError("no network")


@worker(retry=0, timeout=0.05)
async def hangs() -> None:
    sentry_sdk.set_tag("shop", "Oslo")
    await asyncio.Event().wait()


@worker(retry=0)
async def ends(how: str) -> object:
    endings: dict[str, Any] = {
        "snooze": Snooze(3600),
        "discard": Discard("not today"),
        "kill": Kill("enough"),
        "group": ExceptionGroup("tasks", [Discard("a"), Kill("b")]),
    }
    if how == "returned":
        return Kill("enough")
    if how == "well":
        return None
    raise endings[how]


@worker(retry=0)
async def waits_for_others(name: str, others: int) -> None:
    sentry_sdk.set_tag("name", name)
    met.append(name)
    await eventually(lambda: len(met) == others, "all jobs run")
    raise ValueError(name)


met: list[str] = []
WORKERS = [pays, pays_in_thread, pays_in_child, fails_twice, hangs, ends, waits_for_others]


def app(reporter: Reporter | type[Reporter] = SentryReporter, **options: Any) -> App:
    queues = {"default": 5, "mail": 5}
    return App(workers=WORKERS, queues=queues, reporters=[reporter], **options)


def tags(event: dict[str, Any]) -> dict[str, str]:
    return dict(event["tags"])


async def test_a_final_failure_is_an_error_with_the_job_and_what_its_code_has_set(
    sentry: Kept,
) -> None:
    async with app().testing() as t:
        receipt = await pays.enqueue(SECRET)
        await t.drain()
    event = sentry.one()
    said = {"class": "pays", "queue": "mail", "jid": receipt.jid, "attempt": 1}
    assert event["level"] == "error"
    assert event["transaction"] == "pays"
    assert event["contexts"]["job"] == said
    assert tags(event) | {f"job.{k}": v for k, v in said.items()} == tags(event)
    assert tags(event)["shop"] == "Oslo"
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["looked up the price"]
    [value] = event["exception"]["values"]
    assert (value["type"], value["value"]) == ("ValueError", "refused")
    assert value["mechanism"] == {"type": "kiqpy", "handled": False}
    assert value["stacktrace"]["frames"][-1]["function"] == "pays"


@pytest.mark.parametrize("of", [pays, pays_in_thread, pays_in_child])
async def test_arguments_are_told_only_if_asked_for(sentry: Kept, of: Any) -> None:
    for asked in (False, True):
        async with app(SentryReporter(arguments=asked)).testing() as t:
            await of.enqueue(SECRET)
            await t.drain()
    silent, asked_for = sentry.events()
    assert SECRET not in repr(silent)
    assert asked_for["contexts"]["job"]["args"] == [SECRET]


async def test_local_variables_come_with_the_arguments_unless_the_client_says_no(
    sentry: Kept,
) -> None:
    async with app(SentryReporter(arguments=True)).testing() as t:
        await pays.enqueue(SECRET)
        await t.drain()
        sentry_sdk.get_client().options["include_local_variables"] = False
        await pays.enqueue(SECRET)
        await t.drain()
    ends = [e["exception"]["values"][0]["stacktrace"]["frames"][-1] for e in sentry.events()]
    assert ends[0]["vars"] == {"card": f"'{SECRET}'"}
    assert "vars" not in ends[1]


async def test_code_in_a_thread_is_in_the_scope_of_its_job(sentry: Kept) -> None:
    async with app().testing() as t:
        await pays_in_thread.enqueue(SECRET)
        await t.drain()
    assert tags(sentry.one())["shop"] == "Oslo"


async def test_a_timeout_is_told_in_the_scope_of_its_job(sentry: Kept, server: TestServer) -> None:
    async with app(redis_url=server.url):
        await hangs.enqueue()
        await eventually(lambda: bool(sentry.events()), "an event")
    assert tags(sentry.one())["shop"] == "Oslo"
    assert sentry.one()["exception"]["values"][-1]["type"] == "TimeoutError"


async def test_jobs_at_the_same_time_do_not_share_a_scope(sentry: Kept) -> None:
    met.clear()
    names = ["one", "two", "three"]
    async with app().testing() as t:
        for name in names:
            await waits_for_others.enqueue(name, len(names))
        await t.drain()
    told = {tags(e)["name"]: e["exception"]["values"][0]["value"] for e in sentry.events()}
    assert told == {name: name for name in names}
    assert "name" not in sentry_sdk.get_isolation_scope()._tags


@pytest.mark.parametrize("how", ["well", "snooze", "discard", "kill", "group", "returned"])
async def test_signals_are_no_errors(sentry: Kept, how: str) -> None:
    reporter = SentryReporter()
    async with app(reporter).testing() as t:
        await ends.enqueue(how)
        await t.drain()
    assert sentry.events() == []
    assert not reporter._kept


@pytest.mark.parametrize(
    ("retries", "levels"),
    [
        ("warning", ["warning", "error"]),
        ("error", ["error", "error"]),
        ("breadcrumb", ["error"]),
    ],
)
async def test_a_retried_failure_is_noted_as_such(
    sentry: Kept, retries: Any, levels: list[str]
) -> None:
    async with app(SentryReporter(retries=retries)).testing() as t:
        await fails_twice.enqueue()
        await t.drain(with_scheduled=True)
    events = sentry.events()
    assert [event["level"] for event in events] == levels
    assert [tags(event)["job.retried"] for event in events] == [True] * (len(levels) - 1) + [False]
    last = events[-1]
    assert last["contexts"]["job"]["attempt"] == 2
    crumbs = [crumb["message"] for crumb in last["breadcrumbs"]["values"]]
    assert crumbs == ["attempt 1 failed: OSError: no network"]


async def test_a_job_that_never_began_is_told_too(sentry: Kept) -> None:
    jobs = app()
    async with jobs.testing() as t:
        await jobs.enqueue(Job("Nobody", [SECRET], queue="mail", retry=0))
        await t.drain()
    assert tags(sentry.one())["job.class"] == "Nobody"
    assert SECRET not in repr(sentry.one())


async def test_the_scope_stands_around_the_apps_middleware(sentry: Kept) -> None:
    async def tenant(job: Job, call_next: Next) -> None:
        sentry_sdk.set_tag("tenant", "acme")
        await call_next(job)

    async with app(middleware=[tenant]).testing() as t:
        await pays.enqueue(SECRET)
        await t.drain()
    assert tags(sentry.one())["tenant"] == "acme"


async def test_bytes_that_are_no_job_and_cancelled_jobs(sentry: Kept, server: TestServer) -> None:
    started = asyncio.Event()

    @worker(name="waits")
    async def waits() -> None:
        started.set()
        await asyncio.Event().wait()

    jobs = App(
        redis_url=server.url, workers=[waits], queues={"default": 2}, reporters=[SentryReporter]
    )
    async with jobs:
        receipt = await waits.enqueue()
        await asyncio.wait_for(started.wait(), 30)
        await jobs.admin.cancel(receipt.jid)
        server.cli("LPUSH", "queue:default", "no job")
        await eventually(lambda: bool(sentry.events()), "an event")
    assert sentry.one()["exception"]["values"][-1]["type"] == "DecodeError"


async def test_without_a_client_nothing_happens() -> None:
    async with app().testing() as t:
        await pays.enqueue(SECRET)
        assert (await t.drain()).failed


def test_a_wrong_setting_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'warning'"):
        SentryReporter(retries="warn")  # type: ignore[arg-type]

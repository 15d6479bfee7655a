"""Jobs that a real ActiveJob has made run in Python; those that fail here, Ruby retries."""

from __future__ import annotations

import subprocess
from datetime import datetime
from typing import Any

import pytest

from kiqpy import App, worker
from tests.eventually import eventually
from tests.interop.ruby import Ruby, Sidekiq
from tests.interop.told import due_now, payloads, size, told, wait_told
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
ran: list[Any] = []
broken: list[bool] = []


@worker(name="Greeting", backoff=lambda _count, _error, _job: 1000.0)
async def greet(
    name: str, count: int, options: dict[str, Any], *, at: datetime | None = None
) -> None:
    if broken:
        raise ValueError("not here")
    ran.append((name, count, options, at))


class Jobs(App):
    queues = {"default": 5}
    workers = [greet]
    poll_interval = 0.05


@pytest.fixture(autouse=True)
def _active_job(desk: Ruby) -> None:
    ran.clear()
    broken.clear()
    have = subprocess.run(["ruby", "-e", "require 'active_job'"], capture_output=True, check=False)
    if have.returncode:
        pytest.skip("no ActiveJob here: apt-get install --no-install-recommends ruby-activejob")


ARGS = ["Ann", 3, {"loud": True}]


async def test_it_runs_in_python(ruby: Ruby, clean: TestServer) -> None:
    ruby.ask("active_job", "Greeting", ARGS)
    ruby.ask("active_job_at", "Greeting", ["Bob", 1, {}], 1795225663.5)
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: len(ran) == 2, "both")
    assert ("Ann", 3, {"loud": True}, None) in ran
    [bob] = [one for one in ran if one[0] == "Bob"]
    assert bob[3].timestamp() == 1795225663.5


async def test_what_fails_here_ruby_retries(ruby: Ruby, clean: TestServer) -> None:
    broken.append(True)
    job_id = ruby.ask("active_job", "Greeting", ARGS)
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: size(clean, "retry") == 1, "its failure")
    [failed] = payloads(clean, "retry")
    assert failed["class"] == "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
    assert (failed["wrapped"], failed["error_class"]) == ("Greeting", "ValueError")
    assert ruby.ask("set", "retry")[0]["display_class"] == "Greeting"
    assert ruby.ask("broken") == []
    due_now(clean, "retry")
    with Sidekiq(clean.url, WITH_ACTIVEJOB="1"):
        [[_, ident, *args]] = [["", *one] for one in wait_told(clean, "ruby", 1)]
    assert ident == job_id
    assert args[:2] == ['"Ann"', "3"]
    assert not told(clean, "python")


async def test_a_record_is_refused_and_ruby_may_run_it(ruby: Ruby, clean: TestServer) -> None:
    record = {"_aj_globalid": "gid://shop/User/7"}
    inner = {"job_class": "Greeting", "arguments": [record], "job_id": "x"}
    ruby.ask("push", {
        "class": "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "wrapped": "Greeting",
        "args": [inner],
    })  # fmt: skip
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: size(clean, "retry") == 1, "its failure")
    [failed] = payloads(clean, "retry")
    assert "the record gid://shop/User/7, which only Ruby can load" in failed["error_message"]
    assert failed["args"] == [inner]

"""Jobs between Sidekiq and kiqpy on one Redis: enqueued, scheduled, retried, put back; each way."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kiqpy import Job
from tests.eventually import eventually
from tests.interop.python_jobs import Jobs, echo, held, shaky
from tests.interop.ruby import Ruby, Sidekiq
from tests.interop.told import due_now, kiqpy, payloads, raw, size, told, wait_told
from tests.server import TestServer, until

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

# What JSON can say and both languages must read alike.
ARGUMENTS: list[list[Any]] = [
    [],
    [None, True, False],
    [0, -1, 2**53 + 1, 10**30, -(10**30)],
    [0.0, -0.0, 0.1, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 100.0],
    ["", "é ß 日本 🎉", '"quoted" \\ / </script>', "\u2028\u2029", "line\nbreak\ttab\x00\x1f\x7f"],
    [{}, [], {"a": {"b": [1, {"c": None}]}}, [[[]]]],
    [{"é": 1, "": 2, "a b": 3}],
    ["x" * 100_000],
]

# Ruby sends integers of any size, kiqpy those of 64 bits.
OURS = [[n for n in args if not isinstance(n, int) or abs(n) < 2**63] for args in ARGUMENTS]


def same(got: list[Any], given: list[Any]) -> bool:
    """Equal, and of equal types: 1 is not 1.0, and -0.0 not 0.0."""
    return json.dumps(got) == json.dumps(given)


async def test_ruby_enqueues_and_kiqpy_runs(ruby: Ruby, clean: TestServer) -> None:
    jids = [ruby.ask("push", {"class": "Echo", "args": args}) for args in ARGUMENTS]
    bulk = {"class": "Echo", "args": [[n] for n in range(100)]}
    jids += ruby.ask("push_bulk", bulk)
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: size(clean, "test:python") == 108, "108 jobs")
    ran = {jid: args for jid, *args in told(clean, "python")}
    assert set(ran) == set(jids)
    for jid, args in zip(jids, [*ARGUMENTS, *bulk["args"]], strict=True):
        assert same(ran[jid], args)


async def test_kiqpy_enqueues_and_ruby_runs(ruby: Ruby, clean: TestServer) -> None:
    async with Jobs(redis_url=clean.url).client_only() as jobs:
        receipts = [await jobs.enqueue(echo.new(*args)) for args in OURS]
        receipts += await jobs.enqueue_many([Job("Echo", [n]) for n in range(100)])
    with Sidekiq(clean.url):
        ran = {jid: args for jid, *args in wait_told(clean, "ruby", 108)}
    assert set(ran) == {receipt.jid for receipt in receipts}
    given = [*OURS, *([n] for n in range(100))]
    for receipt, args in zip(receipts, given, strict=True):
        assert same(ran[receipt.jid], args)


async def test_ruby_schedules_and_kiqpy_runs_when_it_is_due(ruby: Ruby, clean: TestServer) -> None:
    due = time.time() + 0.5
    jid = ruby.ask("push", {"class": "Echo", "args": ["later"], "at": due})
    far = ruby.ask("push", {"class": "Echo", "args": ["much later"], "at": due + 1000})
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: told(clean, "python"), "the job to be due")
        assert due <= time.time() < due + 5
    assert told(clean, "python") == [[jid, "later"]]
    assert [job["jid"] for job in payloads(clean, "schedule")] == [far]


async def test_kiqpy_schedules_and_ruby_runs_when_it_is_due(ruby: Ruby, clean: TestServer) -> None:
    async with Jobs(redis_url=clean.url).client_only() as jobs:
        far = await jobs.enqueue(echo.new("much later"), in_=1000)
        with Sidekiq(clean.url) as sidekiq:
            sidekiq.says("Booting")
            due = time.time() + 0.5
            soon = await jobs.enqueue(echo.new("later"), at=due)
            await eventually(lambda: told(clean, "ruby"), "the job to be due")
            assert told(clean, "ruby") == [[soon.jid, "later"]]
            assert due <= time.time() < due + 5
    assert [job["jid"] for job in payloads(clean, "schedule")] == [far.jid]


@pytest.mark.parametrize("first", ["ruby", "python"])
async def test_a_retry_is_handed_over(ruby: Ruby, clean: TestServer, first: str) -> None:
    """Each fails it in turn: one count goes on, and what belongs to the first failure stays."""
    async with Jobs(redis_url=clean.url).client_only() as jobs:
        jid = (await jobs.enqueue(shaky.new("née"))).jid
    seen: list[dict[str, Any]] = []
    others = {"ruby": "python", "python": "ruby"}
    turn = first
    for count in range(4):
        due_now(clean, "retry")
        before = size(clean, "retry")
        await _fail_once(clean, turn)
        [failed] = payloads(clean, "retry")
        seen.append(failed)
        assert before == min(count, 1)
        assert failed["jid"] == jid
        assert failed["retry_count"] == count
        assert failed["error_class"] == ("ArgumentError" if turn == "ruby" else "ValueError")
        assert failed["error_message"] == "not yet, née: <b>é</b>"
        assert failed["args"] == ["née"]
        [shown] = ruby.ask("set", "retry")
        assert 0 < len(shown["error_backtrace"]) <= 3
        turn = others[turn]
    assert len({job["failed_at"] for job in seen}) == 1
    assert len({job["created_at"] for job in seen}) == 1
    assert [job.get("retried_at", 0) for job in seen] == sorted(
        job.get("retried_at", 0) for job in seen
    )
    clean.cli("SET", "test:calm", 1)
    due_now(clean, "retry")
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: told(clean, "python") == [[jid, "née"]], "its success")
    assert (size(clean, "retry"), clean.cli("GET", "stat:processed")) == (0, "5")
    assert clean.cli("GET", "stat:failed") == "4"


async def _fail_once(server: TestServer, where: str) -> None:
    failed = int(str(server.cli("GET", "stat:failed") or 0))

    def counted() -> bool:
        return server.cli("GET", "stat:failed") == str(failed + 1)

    if where == "python":
        async with Jobs(redis_url=server.url):
            await eventually(counted, "a failure in Python")
    else:
        with Sidekiq(server.url):
            until(counted, "a failure in Ruby", 30)


async def test_what_kiqpy_puts_back_at_a_stop_ruby_runs(ruby: Ruby, clean: TestServer) -> None:
    async with Jobs(redis_url=clean.url) as jobs:
        receipts = await jobs.enqueue_many([held.new(str(n)) for n in range(4)])
        await eventually(lambda: size(clean, "test:began") == 4, "four running jobs")
        assert not raw(clean, "queue:default")
    back = raw(clean, "queue:default")
    assert sorted(json.loads(member)["args"][0] for member in back) == ["0", "1", "2", "3"]
    assert {json.loads(member)["jid"] for member in back} == {one.jid for one in receipts}
    assert not any(b"retry_count" in member or b"recovered" in member for member in back)
    clean.cli("SET", "test:go", 1)
    with Sidekiq(clean.url):
        ran = wait_told(clean, "ruby", 4)
    assert Counter(jid for jid, _ in ran) == Counter(one.jid for one in receipts)
    assert not told(clean, "python")


async def test_what_ruby_puts_back_at_a_stop_kiqpy_runs(ruby: Ruby, clean: TestServer) -> None:
    jids = ruby.ask("push_bulk", {"class": "Held", "args": [[str(n)] for n in range(4)]})
    before = raw(clean, "queue:default")
    # A fifth thread would wait in BRPOP; Sidekiq kills it with a job that it just put back.
    with Sidekiq(clean.url, "-t", "1", "-c", "4") as sidekiq:
        wait_told(clean, "began", 4)
        sidekiq.send(signal.SIGTERM)
        sidekiq.ends()
    assert sorted(raw(clean, "queue:default")) == sorted(before)
    clean.cli("SET", "test:go", 1)
    async with Jobs(redis_url=clean.url):
        await eventually(lambda: size(clean, "test:python") == 4, "four jobs in Python")
    assert Counter(jid for jid, _ in told(clean, "python")) == Counter(jids)
    assert not told(clean, "ruby")


DUE = 5_000


async def test_both_pollers_on_one_set_promote_each_job_once(
    ruby: Ruby, clean: TestServer, tmp_path: Path
) -> None:
    """Nothing is lost and nothing doubled, whoever gets at a due job first."""
    async with Jobs(redis_url=clean.url).client_only() as jobs:
        soon = time.time() + 2
        made = [Job("Echo", [n], at_s=soon + n % 100 / 100) for n in range(DUE // 2)]
        receipts = await jobs.enqueue_many(made, atomic=False)
    theirs = {"class": "Echo", "args": [[n] for n in range(DUE // 2)], "at": soon}
    jids = [one.jid for one in receipts] + ruby.ask("push_bulk", theirs)
    assert size(clean, "schedule") == DUE
    with Sidekiq(clean.url) as sidekiq, kiqpy(clean, tmp_path) as worker:
        sidekiq.says("Booting")
        worker.says("ctrl-c")
        until(lambda: size(clean, "test:ruby") + size(clean, "test:python") >= DUE, "all", 60)
        until(lambda: clean.cli("GET", "stat:processed") == str(DUE), "the count of both", 10)
    ran = Counter(jid for jid, _ in [*told(clean, "ruby"), *told(clean, "python")])
    assert ran == Counter(jids)
    assert told(clean, "ruby")
    assert told(clean, "python")
    left = ("schedule", "retry", "dead", "queue:default")
    assert [size(clean, key) for key in left] == [0, 0, 0, 0]


async def test_one_that_is_killed_loses_nothing_to_ruby(
    ruby: Ruby, clean: TestServer, tmp_path: Path
) -> None:
    """A kiqpy process dies by kill -9 in its jobs; another rescues them, and Ruby may run them."""
    with kiqpy(clean, tmp_path) as worker:
        jids = ruby.ask("push_bulk", {"class": "Held", "args": [[str(n)] for n in range(5)]})
        wait_told(clean, "began", 5)
        worker.kill()
    clean.cli("SET", "test:go", 1)
    async with Jobs(redis_url=clean.url, queues=["other"], suspicion=0.5):
        with Sidekiq(clean.url):
            await eventually(lambda: size(clean, "test:ruby") == 5, "five in Ruby", 60)
    assert Counter(jid for jid, _ in told(clean, "ruby")) == Counter(jids)

"""Ruby's API and `jobs.admin` say the same of every state, field by field; each acts for both."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kiqpy.admin import JobRow
from tests.eventually import eventually
from tests.interop.filled import TEXT, WAITING, fill
from tests.interop.python_jobs import Jobs
from tests.interop.ruby import Ruby, Sidekiq
from tests.interop.told import payloads, size, told
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
SETS = {"retry": "retry", "schedule": "scheduled", "dead": "dead"}
SOON_S = 2.0  # between two looks at what grows by itself


@pytest.fixture
async def full(ruby: Ruby, clean: TestServer) -> AsyncIterator[Jobs]:
    async with Jobs(redis_url=clean.url) as jobs:
        await fill(jobs, clean)
        yield jobs


def same_job(theirs: dict[str, Any], row: JobRow) -> None:
    assert row.job is not None
    assert theirs["value"].encode() == row.raw
    assert (theirs["jid"], theirs["klass"], theirs["args"]) == (row.jid, row.class_, row.args)
    assert theirs["queue"] == row.queue
    assert theirs["tags"] == row.job.payload.get("tags", [])
    assert theirs["created_at"] == row.created_at
    assert theirs["enqueued_at"] == row.enqueued_at
    assert theirs["retry_count"] == row.retry_count
    assert theirs["failed_at"] == row.failed_at
    assert theirs["retried_at"] == row.retried_at
    assert (theirs["error_class"] or "") == row.error_class
    assert (theirs["error_message"] or "") == row.error_message
    assert bool(theirs["error_backtrace"]) == ("error_backtrace" in row.job.payload)


async def test_the_state_that_is_compared_has_everything_in_it(full: Jobs) -> None:
    stats = await full.admin.stats()
    assert (stats.busy, stats.retry, stats.dead, stats.scheduled) == (2, 3, 4, 3)
    assert (stats.enqueued, stats.processes) == (WAITING + 1, 1)
    assert (stats.processed, stats.failed) == (6, 6)


async def test_stats(ruby: Ruby, full: Jobs) -> None:
    theirs, ours = ruby.ask("stats"), await full.admin.stats(30)
    assert theirs["processed"] == ours.processed
    assert theirs["failed"] == ours.failed
    assert theirs["scheduled_size"] == ours.scheduled
    assert theirs["retry_size"] == ours.retry
    assert theirs["dead_size"] == ours.dead
    assert theirs["enqueued"] == ours.enqueued
    assert theirs["processes_size"] == ours.processes
    assert theirs["workers_size"] == ours.busy
    history = ruby.ask("history", 30)
    assert history["processed"] == {day.date: day.processed for day in ours.days}
    assert history["failed"] == {day.date: day.failed for day in ours.days}


async def test_queues(ruby: Ruby, full: Jobs) -> None:
    theirs = {queue["name"]: queue for queue in ruby.ask("queues")}
    ours = {queue.name: queue for queue in await full.admin.queues()}
    assert theirs.keys() == ours.keys() == {"default", "mail", "other"}
    for name, queue in ours.items():
        assert theirs[name]["size"] == queue.size
        assert theirs[name]["latency"] == pytest.approx(queue.latency_s, abs=SOON_S)
        page = await full.admin.jobs(f"queue:{name}", per=100, newest=True)
        entries = ruby.ask("queue", name)
        for entry, row in zip(entries, page.rows, strict=True):
            same_job(entry, row)
    assert ruby.ask("stats")["queues"] == {name: queue.size for name, queue in ours.items()}


@pytest.mark.parametrize("name", SETS)
async def test_sets(ruby: Ruby, full: Jobs, name: str) -> None:
    page = await full.admin.jobs(SETS[name], per=100, newest=True)
    entries = ruby.ask("set", name)
    for entry, row in zip(entries, page.rows, strict=True):
        same_job(entry, row)
        assert entry["score"] == row.at
        assert entry["error"] == bool(row.error_class)
        assert ruby.ask("scan", name, row.jid) == [row.jid]


async def test_processes_of_both(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    with Sidekiq(clean.url, "-q", "a", "-q", "b") as sidekiq:
        sidekiq.says("Booting")
        await eventually(lambda: len(ruby.ask("processes")) == 2, "Ruby's process")
        theirs = {one["identity"]: one for one in ruby.ask("processes")}
        ours = await full.admin.processes()
        threads = ruby.ask("threads")
    assert theirs.keys() == {process.ident for process in ours}
    assert threads == sum(process.concurrency for process in ours) == 10
    for process in ours:
        one = theirs[process.ident]
        told = one["attributes"]
        assert told["hostname"] == process.hostname
        assert told["pid"] == process.pid
        assert one["tag"] == process.tag
        assert one["labels"] == list(process.labels)
        assert one["queues"] == list(process.queues)
        assert one["stopping"] is process.quiet is False
        assert told["concurrency"] == process.concurrency == 5
        assert told["busy"] == process.busy
        assert told["started_at"] == process.started_at
        assert told["beat"] == pytest.approx(process.beat_at, abs=SOON_S)
        assert told["rss"] == pytest.approx(process.rss_kb, rel=0.2)
        assert told["rss"] > 1000
        assert told["rtt_us"] > 0
        assert process.rtt_us > 0


async def test_workers_of_both(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    with Sidekiq(clean.url, "-q", "theirs") as sidekiq:
        sidekiq.says("Booting")
        ruby.ask("push", {"class": "Held", "args": ["c"], "queue": "theirs"})
        await eventually(lambda: len(ruby.ask("workers")) == 3, "three running jobs")
        theirs = {one["work"]["payload"]["jid"]: one for one in ruby.ask("workers")}
        ours = {row.job.jid: row for row in await full.admin.busy() if row.job}
    assert theirs.keys() == ours.keys()
    for jid, row in ours.items():
        work = theirs[jid]["work"]
        assert theirs[jid]["process"] == row.ident
        assert work["queue"] == row.queue
        assert work["payload"] == json.loads(row.raw)
        assert work["run_at"] == row.run_at
        assert isinstance(work["run_at"], int)
        assert abs(work["run_at"] - time.time()) < 30
    clean.cli("SET", "test:go", 1)


async def test_both_say_that_a_process_is_quiet(ruby: Ruby, full: Jobs) -> None:
    await full.quiet()
    await eventually(lambda: ruby.ask("processes")[0]["stopping"], "its next heartbeat")
    assert (await full.admin.processes())[0].quiet


async def test_what_is_gone_is_gone_for_both(ruby: Ruby, full: Jobs) -> None:
    assert await full.admin.clear("dead") == 4
    assert await full.admin.clear("queue:mail") == WAITING
    assert ruby.ask("stats")["dead_size"] == 0
    assert [queue["name"] for queue in ruby.ask("queues")] == ["default", "other"]


# -- each acts upon what the other has written


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("how", ["delete", "kill", "retry", "add_to_queue"])
async def test_ruby_acts_upon_kiqpys_jobs(
    ruby: Ruby, full: Jobs, clean: TestServer, name: str, how: str
) -> None:
    await full.quiet()
    before = payloads(clean, name)
    for job in before:
        assert ruby.ask("act", name, job["jid"], how)
    left = payloads(clean, name)
    if (name, how) == ("dead", "kill"):
        assert {job["jid"] for job in left} == {job["jid"] for job in before}
        return
    assert left == []
    for job in before:
        found = await full.admin.find(job["jid"])
        if how == "delete":
            assert found.row is None
            continue
        assert found.row is not None
        assert found.row.job is not None
        there = found.row.job.payload
        assert found.row.place == ("dead" if how == "kill" else f"queue:{job['queue']}")
        assert there["args"] == job["args"]
        counts = {"retry": -1}.get(how, 0)
        if "retry_count" in job:
            assert there["retry_count"] == job["retry_count"] + counts


async def test_a_job_that_ruby_retries_counts_on(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    """`Retry now` writes a count of -1, and kiqpy goes on from there."""
    jid = next(job["jid"] for job in payloads(clean, "retry") if job["args"] == ["once"])
    assert ruby.ask("act", "retry", jid, "retry")
    before = int(str(clean.cli("GET", "stat:failed")))
    await eventually(lambda: clean.cli("GET", "stat:failed") == str(before + 1), "a failure")
    [job] = [job for job in payloads(clean, "retry") if job["jid"] == jid]
    assert job["retry_count"] == 0


async def test_ruby_reschedules_kiqpys_jobs(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    """ZINCRBY of the job as Ruby writes it: other bytes would double it."""
    for job in payloads(clean, "schedule"):
        ruby.ask("act", "schedule", job["jid"], "reschedule", time.time() + 5000)
    assert size(clean, "schedule") == 3
    rows = (await full.admin.jobs("scheduled")).rows
    assert all(row.at is not None and row.at > time.time() + 4000 for row in rows)


async def test_ruby_drops_a_job_from_a_queue(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    jid = payloads(clean, "queue:mail")[7]["jid"]
    assert ruby.ask("drop", "mail", jid)
    assert size(clean, "queue:mail") == WAITING - 1
    assert (await full.admin.find(jid)).row is None


async def test_kiqpy_acts_upon_rubys_jobs(ruby: Ruby, full: Jobs, clean: TestServer) -> None:
    await full.admin.clear("scheduled")
    at = time.time() + 1000
    jids = [ruby.ask("push", {"class": "Echo", "args": [n], "at": at + n}) for n in range(4)]
    assert (await full.admin.delete(jids[0], "scheduled")).done == 1
    assert (await full.admin.kill(jids[1], "scheduled")).done == 1
    assert (await full.admin.requeue(jids[2], "scheduled")).done == 1
    await eventually(lambda: told(clean, "python"), "the one that was queued")
    assert told(clean, "python") == [[jids[2], 2]]
    dead = {entry["jid"]: entry for entry in ruby.ask("set", "dead")}
    assert dead[jids[1]]["args"] == [1]
    assert [job["jid"] for job in payloads(clean, "schedule")] == [jids[3]]


async def test_markup_stays_text_in_what_ruby_reads(ruby: Ruby, full: Jobs) -> None:
    entries = ruby.ask("set", "dead")
    [entry] = [entry for entry in entries if entry["tags"]]
    assert entry["args"] == [TEXT]
    assert entry["tags"] == ["a", TEXT]
    assert not any("<" in line for line in entry["error_backtrace"])

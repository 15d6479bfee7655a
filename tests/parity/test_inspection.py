"""docs/parity.md, 1.7: counters, processes, what is heard."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from kiqpy import Discard, Job, Reporter, worker
from kiqpy.event import JobAborted, JobFailure, JobStarted, JobStopped, JobSuccess
from tests.eventually import eventually
from tests.parity.parity_app import House, fails, let_go, note, waits

pytestmark = pytest.mark.anyio
FAST = {"heartbeat_interval": 0.1, "lease_ttl": 5.0}


async def test_1_7_counters_in_all_by_day_and_by_queue(house: House) -> None:
    """As in Sidekiq, and of each queue as in Verk; a failure is processed, too."""
    async with house.open(retry=False) as shop:
        await shop.enqueue_many([note.new(1), note.new(2), fails.new(3)])
        await house.told(JobStopped, 3)
        stats = await shop.admin.stats(days=1)
        assert (stats.processed, stats.failed) == (3, 1)
        assert [(day.processed, day.failed) for day in stats.days] == [(3, 1)]
        assert list(stats.queues) == [("default", 3, 1)]
    today = datetime.now(UTC).date().isoformat()
    for key in ("stat:processed", f"stat:processed:{today}", "stat:processed:default"):
        assert house.cli("GET", key) == "3", key
    assert house.cli("GET", "stat:failed") == "1"


async def test_1_7_a_process_tells_of_itself_and_what_it_runs(house: House) -> None:
    async with house.open(**FAST) as shop:
        ident = shop.store.ident
        receipt = await shop.enqueue(waits.new(7))

        async def busy() -> list[Any]:
            return await shop.admin.busy()

        await eventually(busy, "the heartbeat that tells of it")
        [running] = await busy()
        assert (running.ident, running.queue, running.job.jid) == (ident, "default", receipt.jid)
        [process] = await shop.admin.processes()
        assert (process.ident, process.busy, process.concurrency, process.quiet) == (
            ident, 1, 3, False,
        )  # fmt: skip
        assert 0 < house.cli("TTL", ident) <= 60
        assert json.loads(house.cli("HGET", ident, "info"))["queues"] == ["default"]
        let_go()
        await house.told(JobSuccess)


async def test_1_7_processes_that_are_gone_are_pruned(house: House) -> None:
    house.cli("SADD", "processes", "gone:1:aa")
    async with house.client() as shop:
        assert await shop.admin.processes() == []
        assert await shop.admin.prune() == 1
    assert house.cli("SMEMBERS", "processes") == []


async def test_1_7_a_queues_state_and_what_runs_of_it(house: House) -> None:
    """Verk's QueueStats and running_jobs."""
    async with house.open(queues={"default": 1, "mail": 1}, **FAST) as shop:
        await shop.enqueue_many([waits.new(1), waits.new(2)])

        async def busy() -> list[Any]:
            return await shop.admin.busy("default")

        await eventually(busy, "a running job")
        assert await shop.admin.busy("mail") == []
        queues = {queue.name: queue for queue in await shop.admin.queues()}
        assert (queues["default"].size, queues["default"].paused) == (1, False)
        assert queues["mail"].size == 0
        let_go()
        await house.told(JobSuccess, 2)


async def test_1_7_events_of_a_job_with_times(house: House) -> None:
    @worker(retry=False)
    async def says(what: str) -> Any:
        if what == "fail":
            raise ValueError("no")
        return Discard("enough") if what == "abort" else None

    async with house.open(workers=[says]) as shop:
        for n, what in enumerate(("well", "abort", "fail"), 1):
            await shop.enqueue(says.new(what))
            await house.told(JobStopped, n)
    [success], [aborted], [failure] = (house.of(k) for k in (JobSuccess, JobAborted, JobFailure))
    assert success.took_s >= 0
    assert 0 <= success.waited_s < 60
    assert (aborted.reason, str(failure.error)) == ("enough", "no")
    assert len(house.of(JobStarted)) == 3
    assert {event.job.class_ for event in (success, aborted, failure)} == {"says"}


async def test_1_7_a_stream_hears_what_it_selects(house: House) -> None:
    """Verk's consumers with a selector; Toniq's subscribe."""
    async with house.open(queues={"default": 1, "mail": 1}) as shop:
        async with shop.events("job.success", queue="mail") as stream:
            await shop.enqueue(note.new(1))
            await house.told(JobSuccess)
            await shop.enqueue(note.using(queue="mail").new(2))
            event = await anext(stream)
        assert (event.name, event.job.args) == ("job.success", [2])


async def test_1_7_a_reporter_hears_every_end_and_keeps_its_state(house: House) -> None:
    class Tally(Reporter):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def handle_started(self, job: Job) -> None:
            self.heard.append(("started", job.args))

        async def handle_success(self, job: Job, meta: JobSuccess) -> None:
            self.heard.append(("success", meta.took_s >= 0))

        def handle_aborted(self, job: Job, meta: JobAborted) -> None:
            self.heard.append(("aborted", meta.reason))

        def handle_failure(self, job: Job, error: BaseException, meta: JobFailure) -> None:
            self.heard.append(("failure", str(error)))

        def handle_stopped(self, job: Job) -> None:
            self.heard.append("stopped")

    @worker(retry=False)
    async def leaves() -> Any:
        return Discard("enough")

    tally = Tally()
    async with house.open(reporters=[tally], workers=[note, fails, leaves], retry=False) as shop:
        for n, job in enumerate((note.new(1), leaves.new(), fails.new(3)), 1):
            await shop.enqueue(job)
            await eventually(lambda n=n: tally.heard.count("stopped") == n, "the end")
    assert tally.heard == [
        ("started", [1]), ("success", True), "stopped",
        ("started", []), ("aborted", "enough"), "stopped",
        ("started", [3]), ("failure", "no 3"), "stopped",
    ]  # fmt: skip


async def test_1_7_lines_of_a_job(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="kiqpy")
    async with house.open(start_log_level="info", fail_log_level="error", retry=False) as shop:
        good, bad = [await shop.enqueue(job) for job in (note.new(1), fails.new(2))]
        await house.told(JobStopped, 2)
        await eventually(lambda: "job.failure" in caplog.text, "the last line")
        await eventually(lambda: "job.success" in caplog.text, "the last line")
    lines = {line.getMessage(): line.levelname for line in caplog.records}

    def level(kind: str, jid: str) -> str:
        [found] = [of for line, of in lines.items() if f"'{kind}'" in line and jid in line]
        return found

    assert level("job.started", good.jid) == "INFO"
    assert level("job.success", good.jid) == "INFO"
    assert level("job.failure", bad.jid) == "ERROR"

"""Every page of Sidekiq::Web over what kiqpy has written, with the right numbers; its buttons."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kiqpy.admin import JobRow
from tests.eventually import eventually
from tests.interop.filled import TEXT, WAITING, fill
from tests.interop.page import Browser, Page
from tests.interop.python_jobs import Jobs
from tests.interop.ruby import Ruby
from tests.interop.told import kiqpy, payloads, size, told
from tests.server import TestServer, until

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
PAGES = {"/retries": "retry", "/scheduled": "scheduled", "/morgue": "dead"}
KEYS = {"/retries": "retry", "/scheduled": "schedule", "/morgue": "dead"}


@pytest.fixture
async def full(ruby: Ruby, clean: TestServer) -> AsyncIterator[Jobs]:
    async with Jobs(redis_url=clean.url) as jobs:
        await fill(jobs, clean)
        await jobs.quiet()
        await eventually(lambda: ruby.ask("processes")[0]["stopping"], "its next heartbeat")
        yield jobs


@pytest.fixture
def browser(ruby: Ruby) -> Browser:
    return Browser(ruby)


async def summary_is_right(page: Page, jobs: Jobs) -> None:
    stats = await jobs.admin.stats()
    expected = {
        "txtProcessed": stats.processed, "txtFailed": stats.failed, "txtBusy": stats.busy,
        "txtEnqueued": stats.enqueued, "txtRetries": stats.retry, "txtScheduled": stats.scheduled,
        "txtDead": stats.dead,
    }  # fmt: skip
    assert {name: int(page.numbers[name].replace(",", "")) for name in expected} == expected


# -- the pages


async def test_the_summary_is_right_on_every_page(full: Jobs, browser: Browser) -> None:
    for path in ("/", "/?days=180", "/busy", "/queues", "/queues/mail", "/queues/nothing", *PAGES):
        await summary_is_right(browser.open(path), full)


async def test_every_page_answers_over_an_empty_redis(ruby: Ruby, browser: Browser) -> None:
    for path in ("/", "/busy", "/queues", "/queues/default", *PAGES):
        page = browser.open(path)
        assert page.numbers["txtProcessed"] == "0"


async def test_the_dashboard_draws_the_days(full: Jobs, browser: Browser) -> None:
    page, stats = browser.open("/"), await full.admin.stats(30)
    assert json.loads(page.data["data-processed"]) == {d.date: d.processed for d in stats.days}
    assert json.loads(page.data["data-failed"]) == {d.date: d.failed for d in stats.days}


async def test_the_numbers_for_programs(full: Jobs, browser: Browser) -> None:
    status, body = browser.get("/stats")
    told, stats = json.loads(body)["sidekiq"], await full.admin.stats()
    assert status == 200
    assert told.pop("default_latency") >= 0
    assert told == {
        "processed": stats.processed, "failed": stats.failed, "busy": stats.busy,
        "processes": stats.processes, "enqueued": stats.enqueued, "scheduled": stats.scheduled,
        "retries": stats.retry, "dead": stats.dead,
    }  # fmt: skip
    lengths = json.loads(browser.get("/stats/queues")[1])
    assert lengths == {queue.name: queue.size for queue in await full.admin.queues()}


async def test_busy_shows_processes_and_running_jobs(full: Jobs, browser: Browser) -> None:
    page = browser.open("/busy")
    [process] = await full.admin.processes()
    running = await full.admin.busy()
    [first, *jobs] = page.rows
    assert first[0].startswith(f"{process.hostname}:{process.pid}")
    assert "quiet" in first[0]
    assert "Queues: default" in first[0]
    assert first[3:5] == [str(process.concurrency), str(process.busy)]
    shown = {(row[0], row[2], row[3], row[4], row[5]) for row in jobs}
    expected = {
        (one.ident, one.job.jid, one.queue, one.job.class_, f'"{one.job.args[0]}"')
        for one in running
        if one.job
    }
    assert shown == expected
    assert len(shown) == 2


async def test_queues_and_their_pages(full: Jobs, browser: Browser) -> None:
    shown = {row[0]: row[1] for row in browser.open("/queues").rows}
    assert {name: int(size) for name, size in shown.items()} == {
        queue.name: queue.size for queue in await full.admin.queues()
    }
    first, second = browser.open("/queues/mail"), browser.open("/queues/mail?page=2")
    assert (len(first.rows), len(second.rows)) == (25, WAITING - 25)
    rows = (await full.admin.jobs("queue:mail", per=100, newest=True)).rows
    for shown_row, row in zip([*first.rows, *second.rows], rows, strict=True):
        assert shown_row[1] == "Echo x"
        assert shown_row[2].startswith(f'{row.args[0]}, {{"k"=>[{row.args[0]}, nil]}}')
    assert "<script>é" not in first.body


@pytest.mark.parametrize("path", PAGES)
async def test_each_set_and_each_job_in_it(full: Jobs, browser: Browser, path: str) -> None:
    page = browser.open(path)
    rows = (await full.admin.jobs(PAGES[path], per=100)).rows
    keys = [value for form in page.forms for name, value in form.choices if name]
    assert len(page.rows) == len(keys) == len(rows) >= 3
    for key, shown, row in zip(keys, page.rows, rows, strict=True):
        score, _, jid = key.partition("-")
        assert (float(score), jid) == (row.at, row.jid)
        assert _text_of(row) <= set(shown)
        _one_job(browser.open(f"{path}/{key}"), row)
    assert "<script>é" not in page.body


def _text_of(row: JobRow) -> set[str]:
    expected = {row.queue}
    if row.place == "retry":
        expected.add(str(row.retry_count))
    if row.error_class:
        expected.add(" ".join(f"{row.error_class}: {row.error_message}".split()))
    return expected


def _one_job(page: Page, row: JobRow) -> None:
    cells = {cell for cells in page.rows for cell in cells}
    assert row.job is not None
    assert {row.queue, row.jid} <= cells
    assert any(cell.startswith(row.class_) for cell in cells)
    assert "<script>é" not in page.body
    if row.error_class:
        assert {row.error_class, " ".join(row.error_message.split())} <= cells
    if "error_backtrace" in row.job.payload:
        assert "python_jobs.py" in page.body
        assert "in `shaky'" in page.body.replace("&#39;", "'").replace("&#x27;", "'")


async def test_what_is_no_page_is_not_found(full: Jobs, browser: Browser) -> None:
    assert browser.get("/queues/a%20b")[0] == 404
    assert browser.get("/nothing")[0] == 404
    for path in PAGES:
        assert browser.get(f"{path}/1.0-nobody")[0] == 302


# -- the buttons


async def test_delete_one_job_of_a_queue(full: Jobs, browser: Browser, clean: TestServer) -> None:
    jid = payloads(clean, "queue:mail")[-1]["jid"]
    page = browser.open("/queues/mail")
    assert browser.press(page, "/queues/mail/delete", "delete", choose=jid)
    assert size(clean, "queue:mail") == WAITING - 1
    assert jid not in {job["jid"] for job in payloads(clean, "queue:mail")}


async def test_clear_a_queue(full: Jobs, browser: Browser, clean: TestServer) -> None:
    page = browser.open("/queues")
    assert browser.press(page, "/queues/mail", "delete")
    assert [queue.name for queue in await full.admin.queues()] == ["default", "other"]


BUTTONS = [
    ("/retries", "retry"), ("/retries", "delete"), ("/retries", "kill"),
    ("/scheduled", "delete"), ("/scheduled", "add_to_queue"),
    ("/morgue", "retry"), ("/morgue", "delete"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "button"), BUTTONS)
async def test_a_button_for_one_job_of_a_list(
    full: Jobs, browser: Browser, clean: TestServer, path: str, button: str
) -> None:
    job, *rest = payloads(clean, KEYS[path])
    browser.press(browser.open(path), path, button, choose=job["jid"])
    assert payloads(clean, KEYS[path])[: len(rest)] == rest
    await _went_where_it_should(full, job, button)


@pytest.mark.parametrize(("path", "button"), [pair for pair in BUTTONS if pair[1] != "kill"])
async def test_a_button_on_the_page_of_a_job(
    full: Jobs, browser: Browser, clean: TestServer, path: str, button: str
) -> None:
    job, *rest = payloads(clean, KEYS[path])
    forms = browser.open(path).forms
    [key] = [v for form in forms for _, v in form.choices if v.endswith(f"-{job['jid']}")]
    browser.press(browser.open(f"{path}/{key}"), f"{path}/{key}", button)
    assert payloads(clean, KEYS[path]) == rest
    await _went_where_it_should(full, job, button)


async def _went_where_it_should(jobs: Jobs, job: dict[str, Any], button: str) -> None:
    row = (await jobs.admin.find(job["jid"])).row
    if button == "delete":
        assert row is None
        return
    assert row is not None
    assert row.job is not None
    assert row.place == ("dead" if button == "kill" else f"queue:{job['queue']}")
    assert row.args == job["args"]
    if button == "retry" and "retry_count" in job:
        assert row.retry_count == job["retry_count"] - 1


@pytest.mark.parametrize(
    ("path", "button", "to"),
    [
        ("/retries", "retry", "queue"), ("/retries", "delete", ""), ("/retries", "kill", "dead"),
        ("/morgue", "retry", "queue"), ("/morgue", "delete", ""),
    ],
)  # fmt: skip
async def test_a_button_for_all(
    full: Jobs, browser: Browser, clean: TestServer, path: str, button: str, to: str
) -> None:
    jids = {job["jid"] for job in payloads(clean, KEYS[path])}
    browser.press(browser.open(path), f"{path}/all/{button}", button)
    assert size(clean, KEYS[path]) == 0
    for jid in jids:
        row = (await full.admin.find(jid)).row
        assert (row.place.partition(":")[0] if row else "") == to


async def test_a_job_that_was_retried_by_a_button_runs(
    full: Jobs, browser: Browser, clean: TestServer
) -> None:
    clean.cli("SET", "test:calm", 1)
    jid = next(job["jid"] for job in payloads(clean, "retry") if job["args"] == ["twice"])
    browser.press(browser.open("/retries"), "/retries", "retry", choose=jid)
    await full.quiet(False)
    await eventually(lambda: told(clean, "python"), "its success")
    assert told(clean, "python") == [[jid, "twice"]]


def test_quiet_and_stop_a_process(
    browser: Browser, ruby: Ruby, clean: TestServer, tmp_path: Path
) -> None:
    with kiqpy(clean, tmp_path) as worker:
        worker.says("ctrl-c")
        [process] = ruby.ask("processes")
        browser.press(browser.open("/busy"), "/busy", "quiet", choose=process["identity"])
        until(lambda: ruby.ask("processes")[0]["stopping"], "the quiet")
        page = browser.open("/busy")
        assert re.search(r"label-danger.>quiet<", page.body)
        browser.press(page, "/busy", "stop", choose=process["identity"])
        assert worker.ends(10) == 0
    assert browser.open("/busy").rows == []


def test_quiet_and_stop_all_processes(
    browser: Browser, ruby: Ruby, clean: TestServer, tmp_path: Path
) -> None:
    with kiqpy(clean, tmp_path) as one, kiqpy(clean, tmp_path) as two:
        for worker in (one, two):
            worker.says("ctrl-c")
        browser.press(browser.open("/busy"), "/busy", "quiet")
        until(lambda: all(p["stopping"] for p in ruby.ask("processes")), "the quiet of both")
        browser.press(browser.open("/busy"), "/busy", "stop")
        assert (one.ends(10), two.ends(10)) == (0, 0)


async def test_text_of_users_is_never_markup(
    full: Jobs, browser: Browser, clean: TestServer
) -> None:
    [dead] = [job for job in payloads(clean, "dead") if job.get("tags")]
    assert dead["args"] == [TEXT]
    page = browser.open("/morgue")
    assert TEXT not in page.body
    assert any(TEXT in cell for row in page.rows for cell in row)

"""Every page, empty and full, and what each says that nothing else does."""

from __future__ import annotations

import json
import time

import pytest

from kiqpy import App
from kiqpy.web import dashboard
from tests.server import TestServer
from tests.web.filled import failed, fill, packed, payload, put, put_days, put_process
from tests.web.visitor import Page, Visitor

pytestmark = pytest.mark.anyio
EMPTY = {
    ".": "no queues yet",
    "queues": "mail",
    "queue?name=mail": "No job waits in this queue",
    "running": "no process works. Start one with kiqpy run",
    "scheduled": "Nothing is scheduled",
    "retries": "Nothing waits for another attempt",
    "dead": "Nothing is dead",
    "periodic": "nightly",
    "processes": "No process works. Start one with kiqpy run",
}
FULL = {
    ".": ("1,834,211", "21,337", "mail", "reports", "paused", "90 days"),
    "queues": ("mail", "reports", "paused", "low:eu-1"),
    "queue?name=mail": ("Mailer.Welcome", "page 1 of 3", "The oldest has been waiting for"),
    "queue?name=reports": ("paused", "Report.Monthly"),
    "running": ("Mailer.Welcome", "web-1:7:abc"),
    "scheduled": ("Sync.Stock", "in ", "eu"),
    "retries": ("ConnectionRefusedError: [Errno 111] refused by smtp:25", "×12"),
    "dead": ("page 1 of 6", "Report.Monthly", "×26"),
    "dead?page=6": ("not a job:",),
    "dead?per=100": ("page 1 of 2",),
    "periodic": ("nightly", "0 3 * * *", "03:00:00 UTC"),
    "processes": ("web-1", "web-2", "canary", "quiet", "2 of 25", "64 MB"),
    "job?jid=r3": ("ConnectionRefusedError", 'File "/app/shop/mail.py", line 41', "next attempt"),
    "job?jid=run1": ("in process web-1:7:abc", "started"),
    "job?jid=q003": ("queue:mail", "last put into its queue"),
}


@pytest.mark.parametrize("path", EMPTY)
async def test_an_empty_page_says_what_to_do(path: str, visitor: Visitor) -> None:
    visitor.server.cli("DEL", "queues")
    page = await visitor.page(path)
    if path == ".":  # the app's own queue is always there
        assert "No process works. Start one with kiqpy run" in page.main
    else:
        assert EMPTY[path] in page.main


@pytest.mark.parametrize("path", FULL)
async def test_a_page_shows_what_there_is(path: str, visitor: Visitor) -> None:
    fill(visitor.server)
    page = await visitor.page(path)
    for words in FULL[path]:
        assert words in page.main, words


async def test_the_navigation_counts(visitor: Visitor) -> None:
    fill(visitor.server)
    text = (await visitor.page("periodic")).text
    for words in ("Running 2", "Queues 61", "Scheduled 9", "Retries 12", "Dead 131", "Processes 2"):
        assert words in text


async def test_all_links_of_all_pages_lead_somewhere(visitor: Visitor) -> None:
    fill(visitor.server)
    waiting, seen = {*FULL}, set[str]()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        page = await visitor.page(path)
        links = {link for link in page.attributes("a", "href") if not link.startswith("#")}
        waiting |= {link for link in links if link not in seen} if len(seen) < 300 else set()
    assert len(seen) > 150


async def test_static_files(visitor: Visitor) -> None:
    page = await visitor.page(".")
    for link in [*page.attributes("link", "href"), *page.attributes("script", "src")]:
        answer = await visitor.get(link)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert (await visitor.get("static/app.css?v=old")).headers["cache-control"] == "no-cache"
    assert (await visitor.get("static/nothing.css")).status_code == 404
    assert (await visitor.get("static/..%2f__init__.py")).status_code == 404


async def test_a_job_that_has_gone(visitor: Visitor) -> None:
    fill(visitor.server)
    token = (await visitor.page("retries")).tokens[0]
    visitor.server.cli("DEL", "retry")
    answer = await visitor.client.get("job", params={"place": "retry", "row": token})
    assert answer.status_code == 404
    assert "run, moved or deleted" in Page(answer.text).main
    assert (await visitor.get("job?jid=nobody")).status_code == 404
    assert (await visitor.get("job")).status_code == 400


async def test_a_job_deep_in_a_queue_is_found_by_its_link(visitor: Visitor) -> None:
    put(visitor.server, "queue:mail", *[payload(f"j{n:04}") for n in range(3000)])
    page = await visitor.page("queue?name=mail&page=60")
    link = next(a for a in page.attributes("a", "href") if a.startswith("job?"))
    assert "j1475" in (await visitor.page(link)).main


async def test_search(visitor: Visitor) -> None:
    put(visitor.server, "dead", *[failed(f"d{n}", args=[{"sku": f"A-{n}"}]) for n in range(50)])
    odd = failed("odd", args=['say "hé"'], error_message="Zeitüberschreitung", tags=["eu"])
    put(visitor.server, "dead", odd)
    for query in (
        'text=say "hé"&field=args', "text=hé", "text=überschreitung&field=error", "text=odd",
        "text=eu&field=tags", "text=odd&field=jid",
    ):  # fmt: skip
        page = await visitor.page(f"dead?{query}")
        assert len(page.tokens) == 1, query
        assert "1 found among 51 looked at of 51" in page.main
    assert "No job here holds “odd”" in (await visitor.page("dead?text=odd&field=class")).main
    assert len((await visitor.page('dead?text={"sku":"A-7"}&field=args')).tokens) == 0  # spacing
    assert len((await visitor.page("dead?text=A-7&field=args")).tokens) == 1


async def test_a_search_gives_up_and_goes_on(visitor: Visitor) -> None:
    for begin in range(0, 60_000, 1000):
        members = [b'{"class":"C","args":[],"jid":"%d"}' % n for n in range(begin, begin + 1000)]
        put(visitor.server, "dead", *members)
    put(visitor.server, "dead", payload("needle"))
    path, found, looks = "dead?text=needle", 0, 0
    while path:
        page = await visitor.page(path)
        found, looks = found + len(page.tokens), looks + 1
        further = [a for a in page.attributes("a", "href") if "cursor=" in a]
        path = further[0] if further else ""
    assert (found, looks) == (1, 3)


async def test_running_jobs_and_processes_are_searched(visitor: Visitor) -> None:
    fill(visitor.server)
    assert len((await visitor.page("running?text=run1")).tokens) == 1
    assert "web-1" not in (await visitor.page("processes?text=canary")).main
    assert "No queue has “zz” in its name" in (await visitor.page("queues?text=zz")).main


async def test_ticks_come_in_the_periodics_own_order(visitor: Visitor) -> None:
    page = await visitor.page("periodic")
    assert page.main.count("03:00:00 UTC") >= 10


async def test_days(visitor: Visitor) -> None:
    put_days(visitor.server)
    for days in (7, 30, 90, 180):
        page = await visitor.page(f".?days={days}")
        assert sum("processed," in text for text in page.text.split("20")) > 0
        assert page.source.count('class="hit"') == days
    assert "90 days" in (await visitor.page(".?days=9999999")).main


async def test_the_live_graph_begins_with_the_second_look(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiqpy.web._numbers._MAX_AGE_S", 0.0)
    assert "The graph begins" in (await visitor.page(".")).main
    visitor.server.cli("SET", "stat:processed", 50)
    page = await visitor.page(".")
    assert "polyline" in page.source
    assert "/s failed" in page.main


async def test_arguments_can_be_hidden(app: App, clean: TestServer) -> None:
    put(clean, "dead", failed("d1", args=["hunter2", 5]), b"\xff hunter2")
    hidden = dashboard(app, redact=lambda job: ["***", *job.args[1:]])
    broken = dashboard(app, redact=lambda job: 1 // 0)
    for site, words in ((hidden, '"***"'), (broken, "redact failed: ZeroDivisionError")):
        visitor = Visitor(site, clean)
        for path in ("dead", "job?jid=d1", "dead?text=d1"):
            page = await visitor.page(path)
            assert "hunter2" not in page.source
            assert words in page.main
        found = await visitor.page("dead?text=hunter2&field=args")
        assert not found.tokens, "what is hidden can't be guessed by searching"


async def test_a_trace_is_linked(app: App, clean: TestServer) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    put(clean, "dead", failed("d1", traceparent=f"00-{trace}-b7ad6b7169203331-01"))
    put(clean, "dead", failed("d2", traceparent="00-javascript:alert(1)-b7ad6b7169203331-01"))
    visitor = Visitor(dashboard(app, trace_url="https://trace.example/t/{trace_id}"), clean)
    page = await visitor.page("job?jid=d1")
    assert f"https://trace.example/t/{trace}" in page.attributes("a", "href")
    assert "trace.example" not in (await visitor.page("job?jid=d2")).source


async def test_backtraces_of_all_kinds(visitor: Visitor) -> None:
    bomb = packed(["x" * 50_000_000])
    kinds = [packed(["a line"]), ["a line"], "not base64!", "bm90IHpsaWI=", 7, None, bomb]
    for n, kind in enumerate(kinds):
        put(visitor.server, "dead", failed(f"k{n}", error_backtrace=kind))
    for n in range(len(kinds)):
        page = await visitor.page(f"job?jid=k{n}")
        assert ("a line" in page.main) == (n < 2)
        assert len(page.source) < 100_000


async def test_the_store_is_away(visitor: Visitor) -> None:
    visitor.server.kill()
    answer = await visitor.get("dead")
    assert answer.status_code == 503
    assert "Not now" in answer.text
    visitor.server.start()


async def test_the_app_is_not_started(clean: TestServer) -> None:
    visitor = Visitor(dashboard(App(redis_url=clean.url, queues={"mail": 1})), clean)
    answer = await visitor.get("dead")
    assert answer.status_code == 503
    assert "is not started" in answer.text


async def test_numbers_as_events(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiqpy.web._live._STREAM_S", 0.1)
    fill(visitor.server)
    answer = await visitor.get("live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    begin, event, *_ = answer.text.split("\n\n")
    assert begin == "retry: 1000"
    kind, _, data = event.partition("\ndata: ")
    assert (kind, json.loads(data)["dead"]) == ("event: stats", 131)


async def test_a_process_beyond_all_measure(visitor: Visitor) -> None:
    work = {f"t{n}": payload(f"run{n}") for n in range(120)}
    put_process(visitor.server, "big:1:a", work, queues=[f"q{n}" for n in range(500)])
    assert "page 1 of 5" in (await visitor.page("running")).main
    assert "and 488 more" in (await visitor.page("processes")).main


async def test_times_beyond_all_calendars(visitor: Visitor) -> None:
    now = time.time()
    for n, at in enumerate((1e300, -1e300, 1e15, 0.0, float("inf"), now)):
        put(visitor.server, "schedule", payload(f"t{n}", created_at=1e13), score=at)
    assert len((await visitor.page("scheduled")).tokens) == 6
    for token in (await visitor.page("scheduled")).tokens:
        answer = await visitor.client.get("job", params={"place": "scheduled", "row": token})
        assert answer.status_code == 200, token

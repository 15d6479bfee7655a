"""Each button, and what is in Redis afterwards."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from kiqpy import App
from kiqpy.web import dashboard
from tests.server import TestServer
from tests.web.filled import failed, fill, payload, put, put_process
from tests.web.visitor import Page, Visitor

pytestmark = pytest.mark.anyio


def size(server: TestServer, key: str) -> Any:
    return server.cli("LLEN" if key.startswith("queue:") else "ZCARD", key)


ON_SELECTED = [
    # place, its page, its key, button, what is said, where the jobs are then
    ("retry", "retries", "retry", "retry", "Put into their queues: 2 jobs.", "queue:mail"),
    ("retry", "retries", "retry", "kill", "Moved to the dead set: 2 jobs.", "dead"),
    ("retry", "retries", "retry", "delete", "Deleted: 2 jobs.", None),
    ("scheduled", "scheduled", "schedule", "requeue", "Put into their queues: 2", "queue:mail"),
    ("scheduled", "scheduled", "schedule", "kill", "Moved to the dead set: 2 jobs.", "dead"),
    ("scheduled", "scheduled", "schedule", "delete", "Deleted: 2 jobs.", None),
    ("dead", "dead", "dead", "retry", "Put into their queues: 2 jobs.", "queue:mail"),
    ("dead", "dead", "dead", "delete", "Deleted: 2 jobs.", None),
    ("queue:q", "queue?name=q", "queue:q", "kill", "Moved to the dead set: 2 jobs.", "dead"),
    ("queue:q", "queue?name=q", "queue:q", "delete", "Deleted: 2 jobs.", None),
]


@pytest.mark.parametrize(("place", "page", "key", "do", "said", "then"), ON_SELECTED)
async def test_on_selected_jobs(
    place: str, page: str, key: str, do: str, said: str, then: str | None, visitor: Visitor
) -> None:
    put(visitor.server, key, *[failed(f"j{n}") for n in range(5)])
    shown = await visitor.page(page)
    assert do in shown.buttons
    told = await visitor.press(do, place=place, row=shown.tokens[1:3], back=page)
    assert said in told
    assert size(visitor.server, key) == 3
    if then:
        assert size(visitor.server, then) == 2


@pytest.mark.parametrize(("place", "page", "key", "do", "said", "then"), ON_SELECTED)
async def test_on_all(
    place: str, page: str, key: str, do: str, said: str, then: str | None, visitor: Visitor
) -> None:
    put(visitor.server, key, *[failed(f"j{n}") for n in range(250)])
    told = await visitor.press(do, place=place, scope="all", back=page)
    assert said.replace("2", "250") in told
    assert size(visitor.server, key) == 0
    if then:
        assert size(visitor.server, then) == 250


@pytest.mark.parametrize(("place", "page", "key", "do", "said", "then"), ON_SELECTED)
async def test_on_all_that_match(
    place: str, page: str, key: str, do: str, said: str, then: str | None, visitor: Visitor
) -> None:
    jobs = [failed(f"j{n}", **{"class": "Odd" if n % 5 else "Even"}) for n in range(300)]
    put(visitor.server, key, *jobs)
    form = {"do": do, "place": place, "scope": "match", "text": "Even", "field": "class"}
    question = Page((await visitor.post(form)).text)
    assert "60 jobs" in question.main
    assert "class holds “Even”?" in question.main
    told = await visitor.press(do, place=place, scope="match", text="Even", field="class")
    assert said.replace("2", "60") in told
    assert size(visitor.server, key) == 240
    if then:
        assert size(visitor.server, then) == 60


async def test_no_more_are_touched_than_were_counted(visitor: Visitor) -> None:
    put(visitor.server, "dead", *[failed(f"j{n}") for n in range(10)])
    form: dict[str, Any] = {"do": "delete", "place": "dead", "scope": "match", "text": "Mailer"}
    answer = Page((await visitor.post(form)).text)
    put(visitor.server, "dead", *[failed(f"new{n}") for n in range(40)], score=1e9)
    await visitor.post(form | answer.hidden_fields)
    assert size(visitor.server, "dead") == 40


async def test_what_cannot_be_undone_is_asked_for_once_more(visitor: Visitor) -> None:
    fill(visitor.server)
    token = (await visitor.page("dead")).tokens[0]
    forms: list[tuple[dict[str, Any], str]] = [
        ({"do": "delete", "place": "dead", "row": token}, "Delete: 1 job that you selected?"),
        ({"do": "delete", "place": "dead", "scope": "all"}, "all 131 jobs of the dead set?"),
        ({"do": "retry", "place": "dead", "scope": "all"}, "Retry now: all 131 jobs"),
        ({"do": "clear", "target": "mail"}, "Delete queue: mail with 60 jobs?"),
        ({"do": "stop", "target": "web-1:7:abc"}, "Stop: web-1:7:abc?"),
        ({"do": "stop", "scope": "all"}, "Stop all 2 processes?"),
        ({"do": "cancel", "place": "running", "row": token}, "Cancel: 1 job"),
    ]
    for form, words in forms:
        answer = await visitor.post(form)
        assert answer.status_code == 200
        assert words in Page(answer.text).main
    assert size(visitor.server, "dead") == 131
    assert size(visitor.server, "queue:mail") == 60


async def test_twice_is_once(visitor: Visitor) -> None:
    put(visitor.server, "dead", failed("d1"), failed("d2"))
    tokens = (await visitor.page("dead")).tokens
    await visitor.press("retry", place="dead", row=tokens, back="dead")
    told = await visitor.press("retry", place="dead", row=tokens, back="dead")
    assert told == (
        "Put into their queues: 0 jobs. 2 jobs had gone meanwhile: run, or moved by somebody else."
    )
    assert size(visitor.server, "queue:mail") == 2


async def test_a_job_that_has_changed_is_left_alone(visitor: Visitor) -> None:
    put(visitor.server, "retry", failed("r1", retry_count=1), score=2e9)
    tokens = (await visitor.page("retries")).tokens
    visitor.server.cli("DEL", "retry")
    put(visitor.server, "retry", failed("r1", retry_count=2), score=2e9)
    told = await visitor.press("delete", place="retry", row=tokens, back="retries")
    assert "1 job had gone" in told
    assert size(visitor.server, "retry") == 1


async def test_what_cannot_be_read_can_be_deleted(visitor: Visitor) -> None:
    for key, place, page in (
        ("dead", "dead", "dead"), ("queue:mail", "queue:mail", "queue?name=mail"),
    ):  # fmt: skip
        put(visitor.server, key, b"\xff no job")
        tokens = (await visitor.page(page)).tokens
        if place == "dead":
            told = await visitor.press("retry", place=place, row=tokens, back=page)
            assert "can't be read" in told
        told = await visitor.press("delete", place=place, row=tokens, back=page)
        assert told == "Deleted: 1 job."
        assert size(visitor.server, key) == 0


async def test_queues(visitor: Visitor) -> None:
    put(visitor.server, "queue:mail", payload("q1"))
    assert "Paused." in await visitor.press("pause", target="mail", back="queues")
    assert visitor.server.cli("SMEMBERS", "paused") == ["mail"]
    assert "was so already" in await visitor.press("pause", target="mail", back="queues")
    assert "Resumed." in await visitor.press("resume", target="mail", back="queues")
    assert await visitor.press("clear", target="mail", back="queues") == "Deleted: 1 job."
    assert visitor.server.cli("EXISTS", "queue:mail") == 0


async def test_processes(visitor: Visitor) -> None:
    put_process(visitor.server, "web-1:7:abc", {})
    put_process(visitor.server, "web-2:7:abc", {})
    told = await visitor.press("quiet", target="web-1:7:abc", back="processes")
    assert told.startswith("Told to be quiet. It obeys at its next heartbeat")
    assert visitor.server.cli("LRANGE", "web-1:7:abc-signals", 0, -1) == ["TSTP"]
    await visitor.press("stop", scope="all", back="processes")
    assert visitor.server.cli("LRANGE", "web-2:7:abc-signals", 0, -1) == ["TERM"]
    told = await visitor.press("quiet", target="nobody:1:x", back="processes")
    assert told == "Nothing to do: it was so already, or is gone."


async def test_running_jobs_are_cancelled(visitor: Visitor) -> None:
    put_process(visitor.server, "web-1:7:abc", {"t1": payload("run1"), "t2": payload("run2")})
    tokens = (await visitor.page("running")).tokens
    told = await visitor.press("cancel", place="running", row=tokens, back="running")
    assert told == "Cancelled: 2 jobs."
    marks = visitor.server.cli("ZRANGE", "kiq:cancels", 0, -1)
    assert isinstance(marks, list)
    assert {jid for jid in ("run1", "run2") if any(jid in str(mark) for mark in marks)} == {
        "run1", "run2",
    }  # fmt: skip


async def test_periodics(visitor: Visitor) -> None:
    assert "Disabled." in await visitor.press("disable", target="nightly", back="periodic")
    assert "disabled" in (await visitor.page("periodic")).main
    assert "Enabled." in await visitor.press("enable", target="nightly", back="periodic")
    assert "Enqueued once." in await visitor.press("run_now", target="nightly", back="periodic")
    assert size(visitor.server, "queue:mail") == 1
    answer = await visitor.post({"do": "run_now", "target": "nightli"})
    assert answer.status_code == 400
    assert "did you mean 'nightly'?" in Page(answer.text).main


NONSENSE: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "There is no action ''"),
    ({"do": "explode"}, 400, "There is no action 'explode'"),
    ({"do": "retry", "place": "dead"}, 400, "No job was selected"),
    ({"do": "retry", "place": "dead", "row": "nonsense"}, 400, "is no token of a row"),
    ({"do": "retry", "place": "dead", "row": "a/b/c"}, 400, "is no token of a row"),
    ({"do": "retry", "place": "nowhere", "row": "a//c"}, 400, "no place 'nowhere'"),
    ({"do": "retry", "place": "queue:mail", "scope": "all", "confirmed": "yes"}, 400, "already"),
    ({"do": "kill", "place": "dead", "scope": "all", "confirmed": "yes"}, 400, "dead already"),
    ({"do": "delete", "place": "dead", "scope": "match"}, 400, "The filter is empty"),
    ({"do": "cancel", "place": "running", "row": "a//", "confirmed": "yes"}, 400, "No job"),
    ({"do": "pause", "target": "<b>"}, 400, "queue name '<b>'"),
    ({"do": "pause"}, 400, "queue name ''"),
    ({"do": "clear", "target": "a b"}, 400, "queue name 'a b'"),
]


@pytest.mark.parametrize(("form", "status", "words"), NONSENSE)
async def test_nonsense_is_told_apart(
    form: dict[str, Any], status: int, words: str, visitor: Visitor
) -> None:
    answer = await visitor.post(form)
    assert answer.status_code == status
    assert words in Page(answer.text).main


async def test_a_form_that_is_too_large(visitor: Visitor) -> None:
    answer = await visitor.post({"do": "retry", "text": "x" * 1_100_000})
    assert answer.status_code == 413
    answer = await visitor.post({"do": "retry", "place": "dead", "row": ["a//b"] * 3000})
    assert answer.status_code == 400


BACKS = ["//evil.example", "https://evil.example", "dead\r\nX: y", "/dead", "../x", "javascript:1",
         "dead?a=\r\nX:y", "", "act", "live"]  # fmt: skip


@pytest.mark.parametrize("back", BACKS)
async def test_no_form_leads_away(back: str, visitor: Visitor) -> None:
    answer = await visitor.post({"do": "pause", "target": "mail", "back": back})
    assert answer.status_code == 303
    assert re.fullmatch(r"\.\?did=pause&done=1", answer.headers["location"])


@pytest.mark.parametrize(
    "query", ["did=nothing&done=5", "did=<b>&done=1", "did=delete&done=x&gone=-1&left=zz"]
)
async def test_a_link_puts_no_words_on_a_page(query: str, visitor: Visitor) -> None:
    assert (await visitor.page(f"dead?{query}")).notice in ("", "Deleted: 0 jobs.")


async def test_it_leads_back_to_the_same_page(visitor: Visitor) -> None:
    put(visitor.server, "dead", *[failed(f"d{n}") for n in range(60)])
    page = await visitor.page("dead?page=2&per=25&did=delete&done=3")
    back = page.hidden_fields["back"]
    assert back == "dead?page=2&per=25"
    answer = await visitor.post(
        {"do": "retry", "place": "dead", "row": page.tokens[:2], "back": back}
    )
    assert answer.headers["location"] == "dead?page=2&per=25&did=retry&done=2"


async def test_each_action_is_logged(
    app: App, clean: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kiqpy")
    visitor = Visitor(dashboard(app, auth=lambda request, action: "ann\nevent='forged'"), clean)
    put(clean, "dead", failed("d1"))
    token = (await visitor.page("dead")).tokens[0]
    await visitor.press("delete", place="dead", row=token, back="dead")
    await visitor.post({"do": "pause", "target": "no such\nqueue"})
    lines = [record.getMessage() for record in caplog.records if "web.action" in record.message]
    assert len(lines) == 2
    for words in ("action='delete'", "client='127.0.0.1'", "place='dead'", "done=1", "['d1']"):
        assert words in lines[0]
    assert "error=" in lines[1]
    assert not any("\n" in line for line in lines)


async def test_an_action_that_takes_too_long_says_so(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiqpy.web._act._MAX_SECONDS", 0.0)
    put(visitor.server, "dead", *[failed(f"d{n}") for n in range(500)])
    told = await visitor.press("retry", place="dead", scope="match", text="Mailer", back="dead")
    assert "do the same again for the rest" in told
    told = await visitor.press("retry", place="dead", scope="all", back="dead")
    assert "do the same again for the rest" in told


async def test_numbers_follow_an_action_at_once(visitor: Visitor) -> None:
    put(visitor.server, "dead", failed("d1"))
    page = await visitor.page("dead")
    await visitor.press("delete", place="dead", row=page.tokens, back="dead")
    assert "Dead 0" in (await visitor.page("periodic")).text

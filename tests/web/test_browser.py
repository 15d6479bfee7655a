"""The dashboard in a real browser: pages, buttons, keys, live, without scripts, under attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import TestServer, until
from tests.web.filled import failed, fill, payload, put
from tests.web.test_hostile import MARKUP, plant

browser = pytest.importorskip("tests.web.browser", reason="selenium is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.WHY_NOT is not None, reason=str(browser.WHY_NOT)),
]
PAGES = {
    "overview": ".", "queues": "queues", "queue": "queue?name=mail", "running": "running",
    "scheduled": "scheduled", "retries": "retries", "dead": "dead", "periodic": "periodic",
    "processes": "processes", "job": "job?jid=r3", "search": "dead?text=Report&field=class",
    "error": "no/such/page",
}  # fmt: skip
APP = """
from kiqpy import App, worker

@worker(queue="mail")
async def tidy(n: int) -> None: ...

jobs = App(queues={"mail": 5}, workers=[tidy], periodics=[
    ("0 3 * * *", tidy, {"args": [1], "name": "nightly"}),
    ("*/5 * * * *", tidy, {"args": [2], "name": "often", "tz": "Europe/Berlin"}),
])
"""


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    window = browser.Browser()
    yield window
    window.close()


@pytest.fixture(scope="module")
def served(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(APP)
    served = browser.Served(folder, server, "--app", "shop:jobs")
    yield served.url
    served.stop()


@pytest.fixture
def page(window: Any, served: str, clean: TestServer) -> Iterator[Any]:
    fill(clean)
    window.url = served
    window.scripts(True)
    window.look("light")
    window.complaints()
    yield window
    window.driver.get("about:blank")  # no stream goes on


@pytest.fixture(scope="module")
def axe() -> str:
    source = browser.axe_core()
    if source is None:
        pytest.skip("axe-core can't be had from npm here")
    return str(source)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("look", browser.LOOKS)
def test_a_page_is_drawn(name: str, look: str, page: Any) -> None:
    page.look(look)
    page.open(PAGES[name])
    assert page.one("h1").is_displayed()
    if name == "error":
        assert [c for c in page.complaints() if "404" not in c] == []
    else:
        assert page.complaints() == []
    wide = page.run("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels stick out"
    page.shoot(name, look)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_hinders_nobody(name: str, page: Any, axe: str) -> None:
    for look in browser.LOOKS:
        page.look(look)
        page.open(PAGES[name])
        assert page.faults(axe) == [], look


def test_selected_jobs_are_retried(page: Any, clean: TestServer) -> None:
    page.open("dead")
    assert page.one("#jobs-form .toolbar button").get_attribute("disabled")
    for n in (1, 2, 3):
        page.click(f'tr:nth-child({n}) input[name="row"]')
    assert "With 3 selected:" in page.text
    page.click('#jobs-form button[value="retry"]')
    page.sees("Put into their queues: 3 jobs.")
    assert clean.cli("ZCARD", "dead") == 128
    assert clean.cli("LLEN", "queue:mail") == 63


def test_a_page_of_jobs_is_deleted_after_a_question(page: Any, clean: TestServer) -> None:
    page.open("dead")
    page.click("[data-select-all]")
    page.click('#jobs-form button[value="delete"]')
    page.sees("Delete: 25 jobs that you selected?")
    assert clean.cli("ZCARD", "dead") == 131
    page.shoot("confirm", "light")
    page.click("main button.danger")
    page.sees("Deleted: 25 jobs.")
    assert clean.cli("ZCARD", "dead") == 106


def test_a_question_can_be_answered_with_no(page: Any, clean: TestServer) -> None:
    page.open("dead?page=2")
    page.click('.bulk button[value="delete"]')
    page.sees("all 131 jobs of the dead set?")
    page.click("main a.button")
    page.sees("page 2 of 6")
    assert clean.cli("ZCARD", "dead") == 131


def test_what_matches_is_deleted(page: Any, clean: TestServer) -> None:
    page.open("dead")
    page.one("[data-search]").send_keys("Report.Monthly")
    page.click(".search button")
    page.sees("33 found among 131 looked at")
    page.click('.bulk button[value="delete"]')
    page.sees("33 jobs of the dead set that hold “Report.Monthly”?")
    page.click("main button.danger")
    page.sees("Deleted: 33 jobs.")
    assert clean.cli("ZCARD", "dead") == 98


@pytest.mark.parametrize(
    ("path", "button", "said", "command", "then"),
    [
        ("queues", 'form button[aria-label="Pause: mail"]', "Paused.", "SISMEMBER paused mail", 1),
        ("queues", 'form button[aria-label="Resume: reports"]', "Resumed.", "SCARD paused", 0),
        ("periodic", 'button[aria-label="Run now: nightly"]', "Enqueued", "LLEN queue:mail", 61),
        ("periodic", 'button[aria-label="Disable: often"]', "Disabled.", "EXISTS kiq:cron:off", 1),
        ("processes", 'button[aria-label="Quiet: web-1:7:abc"]', "Told to be quiet.",
         "LLEN web-1:7:abc-signals", 1),
        ("job?jid=r3", 'button[value="kill"]', "Moved to the dead set: 1 job.", "ZCARD dead", 132),
    ],
)  # fmt: skip
def test_a_button_does_what_it_says(
    path: str, button: str, said: str, command: str, then: int, page: Any, clean: TestServer
) -> None:
    page.open(path)
    page.click(button)
    page.sees(said)
    assert clean.cli(*command.split()) == then


@pytest.mark.parametrize(
    ("path", "button", "question", "said", "command", "then"),
    [
        ("queues", 'button[aria-label="Delete queue: mail"]', "Delete queue: mail with 60 jobs?",
         "Deleted: 60 jobs.", "EXISTS queue:mail", 0),
        ("processes", 'button[aria-label="Stop: web-1:7:abc"]', "Stop: web-1:7:abc?",
         "Told to stop.", "LLEN web-1:7:abc-signals", 1),
        ("job?jid=run1", 'button[value="cancel"]', "Cancel: 1 job", "Cancelled: 1 job.",
         "ZCARD kiq:cancels", 1),
        ("job?jid=r3", 'button[value="delete"]', "Delete: 1 job", "Deleted: 1 job.",
         "ZCARD retry", 11),
    ],
)  # fmt: skip
def test_a_button_asks_first(
    path: str,
    button: str,
    question: str,
    said: str,
    command: str,
    then: int,
    page: Any,
    clean: TestServer,
) -> None:
    page.open(path)
    page.click(button)
    page.sees(question)
    page.click("main button.danger")
    page.sees(said)
    assert clean.cli(*command.split()) == then


def test_it_is_live(page: Any, clean: TestServer) -> None:
    page.open("retries")
    page.sees("Retries 12")
    put(clean, "retry", failed("fresh", **{"class": "Fresh.Job"}), score=1.0)
    page.sees("Retries 13")
    page.sees("Fresh.Job")
    assert page.one("#live-state").text == "live"
    assert page.complaints() == []


def test_live_leaves_a_selection_alone(page: Any, clean: TestServer) -> None:
    page.open("retries")
    box = page.one('input[name="row"]')
    box.click()
    put(clean, "retry", failed("fresh", **{"class": "Fresh.Job"}), score=1.0)
    page.sees("Retries 13")
    assert box.is_selected()
    assert "Fresh.Job" not in page.text
    box.click()
    page.run("document.activeElement.blur()")
    page.sees("Fresh.Job")


def test_the_live_graph_grows(page: Any, clean: TestServer) -> None:
    page.open(".")
    until(lambda: page.all("polyline.done"), "a graph", 15)
    clean.cli("INCRBY", "stat:processed", 1000)
    until(lambda: "top 1.0/s" not in page.text, "a peak", 15)
    assert page.complaints() == []


def test_keys(page: Any) -> None:
    page.open(".")
    page.press("g", "d")
    page.sees("Died")
    page.press("j", "j", "x")
    assert "With 1 selected:" in page.text
    assert page.all('input[name="row"]')[1].is_selected()
    page.press("l")
    page.sees("page 2 of 6")
    page.press("h")
    page.sees("page 1 of 6")
    page.press("j", "\n")
    page.sees("Last error")
    page.press("?")
    assert page.one("dialog").is_displayed()
    page.one("dialog button").click()
    page.open("dead")
    page.press("/")
    assert page.run("return document.activeElement.name") == "text"
    page.driver.switch_to.active_element.send_keys("gd")
    assert page.run("return document.activeElement.value") == "gd"


def test_without_scripts_all_can_be_read_and_done(page: Any, clean: TestServer) -> None:
    page.scripts(False)
    for path in PAGES.values():
        page.open(path)
        assert page.one("h1").is_displayed()
    page.open("dead")
    page.one('input[name="row"]').click()
    page.click('#jobs-form button[value="delete"]')
    page.click("main button.danger")
    assert page.one(".notice").text == "Deleted: 1 job."
    assert clean.cli("ZCARD", "dead") == 130


def test_markup_does_not_come_to_life(page: Any, clean: TestServer) -> None:
    clean.cli("FLUSHALL")
    for text in MARKUP:
        plant(clean, text)
    for path in (*PAGES.values(), "job?jid=x1", "job?jid=run1", "dead?per=100", "queues?per=100"):
        if path == PAGES["error"]:
            continue
        page.open(path)
        assert page.all("probe, iframe, base, object, [onerror], [onload], [onfocus]") == []
        said = [c for c in page.complaints() if "404" not in c]  # r3 is not there
        assert said == [], "the content policy had something to refuse"


def test_another_site_can_neither_act_nor_frame(
    page: Any, clean: TestServer, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.html"
    evil.write_text(
        f'<form method="post" action="{page.url}act"><input name="do" value="clear">'
        '<input name="target" value="mail"><input name="confirmed" value="yes">'
        f'<button>go</button></form><iframe src="{page.url}"></iframe>'
    )
    page.driver.get(evil.as_uri())
    until(page.complaints, "the refusal to be framed", 10)
    page.click("button")
    page.sees("did not come from a page of this dashboard")
    assert clean.cli("LLEN", "queue:mail") == 60


def test_a_job_with_a_jid_is_found_by_the_field_at_the_top(page: Any, clean: TestServer) -> None:
    put(clean, "queue:mail", payload("deadbeef"))
    page.open("processes")
    page.one(".find input").send_keys("deadbeef")
    page.click(".find button")
    page.sees("queue:mail")

"""100,000 dead jobs and 1,000 queues: pages stay quick, and read no more than they show."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from kiqpy import App
from tests.server import TestServer
from tests.web.filled import fill_full
from tests.web.visitor import Page, Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
DEAD, QUEUES = 100_000, 1000
WITHIN_S = 0.2
PAGES = (
    *(".", ".?days=180", "queues", "queues?page=40", "queue?name=q0500", "dead", "dead?newest=0"),
    *("dead?page=4000", "dead?per=100", "dead?text=d099999", "dead?text=nothing", "retries"),
    *("scheduled", "running", "processes", "periodic", "dead?text=Mailer"),
)


@pytest.fixture(scope="module")
def full() -> Iterator[TestServer]:
    with TestServer() as server:
        fill_full(server, DEAD, QUEUES)
        yield server


@pytest.fixture
async def visitor(full: TestServer) -> AsyncIterator[Visitor]:
    async with App(redis_url=full.url, queues={"mail": 5}).client_only() as app:
        visitor = Visitor(app.dashboard(), full)
        await visitor.page("dead?text=nothing")  # templates are compiled once in a process
        yield visitor


def read(server: TestServer) -> int:
    """Bytes the server has sent so far."""
    info = str(server.cli("INFO", "stats"))
    return int(info.split("total_net_output_bytes:")[1].split()[0])


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_quick_and_bounded(path: str, visitor: Visitor) -> None:
    took: list[float] = []
    for _ in range(3):  # the machine does other things, too
        before, begin = read(visitor.server), time.perf_counter()
        page = await visitor.page(path)
        took.append(time.perf_counter() - begin)
        sent = read(visitor.server) - before
        assert len(page.source) < 200_000
        assert sent < 800_000, f"{path} read {sent:,} bytes"
    assert min(took) < WITHIN_S, took


async def test_a_search_says_how_far_it_got(visitor: Visitor) -> None:
    page = await visitor.page("dead?text=nothing")
    assert "looked at of 100,000" in page.main
    assert "Search further" in page.main


async def test_a_dead_job_is_found_by_its_link(visitor: Visitor) -> None:
    page = await visitor.page("dead?page=3999")
    link = next(a for a in page.attributes("a", "href") if a.startswith("job?"))
    begin = time.perf_counter()
    await visitor.page(link)
    assert time.perf_counter() - begin < WITHIN_S


async def test_a_hundred_among_them_are_deleted_by_filter(visitor: Visitor) -> None:
    form = {"do": "delete", "place": "dead", "scope": "match", "text": "d0012", "field": "jid"}
    assert "Delete: 100 jobs of the dead set" in Page((await visitor.post(form)).text).main
    said = await visitor.press(**form)
    assert said == "Deleted: 100 jobs."
    assert visitor.server.cli("ZCARD", "dead") == DEAD - 100

"""A million jobs in a queue and a million dead: listing stays fast, and searches are bounded.

Time is the server's own, of COMMANDSTATS: the best of three, printed with `-s`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from kiqpy import App
from kiqpy.admin import Admin
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MANY = 1_000_000
PAGE_MS = 50.0
STEP_MS = 15.0  # a step of a search; what is typical is printed
_FILL = """
local kind, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for n = first, last do
  local jid = string.format('%024x', n)
  local job = '{"class":"ReportMailer","args":[' .. n .. ',"plain",{"tenant":"t' .. n % 97 ..
    '"}],"queue":"mail","jid":"' .. jid .. '","retry":true,"created_at":1795225663.123,' ..
    '"enqueued_at":1795225663.123,"error_class":"ValueError","error_message":"no such user"}'
  if kind == 'queue' then redis.call('LPUSH', KEYS[1], job)
  else redis.call('ZADD', KEYS[1], 1700000000 + n, job) end
end
"""


def jid(n: int) -> str:
    return f"{n:024x}"


@pytest.fixture(scope="module")
def full() -> Iterator[TestServer]:
    with TestServer() as server:
        server.cli("SADD", "queues", "mail")
        for key, kind in (("queue:mail", "queue"), ("dead", "set")):
            for first in range(0, MANY, 20_000):
                server.cli("EVAL", _FILL, 1, key, kind, first, first + 19_999)
        assert (server.cli("LLEN", "queue:mail"), server.cli("ZCARD", "dead")) == (MANY, MANY)
        yield server


@pytest.fixture
async def admin(full: TestServer, anyio_backend: object) -> AsyncIterator[Admin]:
    # The limit is above what is there: killing one more must not trim the others.
    async with App(redis_url=full.url, dead_limit=2 * MANY).client_only() as jobs:
        yield jobs.admin


def spent(server: TestServer) -> tuple[float, int]:
    """Milliseconds and calls of scripts and pages since RESETSTAT.

    What scripts call is counted as a part of them, and of LRANGE only what is not theirs.
    """
    text = str(server.cli("INFO", "commandstats"))
    found = re.findall(r"^cmdstat_([^:]+):calls=(\d+),usec=(\d+)", text, re.MULTILINE)
    ours = {name: (int(calls), int(usec)) for name, calls, usec in found}
    top = ours.keys() & {"evalsha", "eval", "zrange", "zrevrange", "lrange"}
    if "lrange" in top and ours["lrange"][0] > 1:
        top -= {"lrange"}
    return sum(ours[name][1] for name in top) / 1000, sum(ours[name][0] for name in top)


async def best(
    server: TestServer, call: Callable[[], Awaitable[Any]], tries: int = 3
) -> tuple[float, float]:
    """The server's milliseconds for the call, and for its average command; the best try."""
    found: list[tuple[float, float]] = []
    for _ in range(tries):
        server.cli("CONFIG", "RESETSTAT")
        await call()
        total, calls = spent(server)
        found.append((total, total / calls))
    return min(found)


@pytest.mark.parametrize("place", ["dead", "queue:mail"])
@pytest.mark.parametrize("page", [1, MANY // 50, MANY // 25])
@pytest.mark.parametrize("newest", [False, True])
async def test_any_page(
    full: TestServer, admin: Admin, place: str, page: int, newest: bool
) -> None:
    async def look() -> None:
        found = await admin.jobs(place, page=page, newest=newest)
        first = (page - 1) * 25
        expected = [MANY - 1 - n if newest else n for n in range(first, first + 25)]
        assert [row.jid for row in found.rows] == [jid(n) for n in expected]
        assert found.total == MANY

    ms, _ = await best(full, look)
    print(f"\n{place} page {page:,} newest={newest}: {ms:.2f} ms")
    assert ms < PAGE_MS


@pytest.mark.parametrize("place", ["dead", "queue:mail"])
@pytest.mark.parametrize("n", [0, MANY // 2, MANY - 1])
async def test_find_by_jid(full: TestServer, admin: Admin, place: str, n: int) -> None:
    async def look() -> None:
        found = await admin.find(jid(n), place)
        assert found.row is not None
        assert found.row.jid == jid(n)

    ms, step_ms = await best(full, look, 1)
    print(f"\nfind {n:,} in {place}: {ms:.0f} ms in steps of {step_ms:.2f} ms")
    assert step_ms < STEP_MS


@pytest.mark.parametrize("place", ["dead", "queue:mail"])
async def test_find_gives_up(full: TestServer, admin: Admin, place: str) -> None:
    async def look() -> None:
        found = await admin.find("not there", place, most=100_000)
        assert (found.row, found.complete) == (None, False)
        assert 100_000 <= found.searched <= 101_000

    ms, step_ms = await best(full, look, 1)
    print(f"\n100,000 of {place} in vain: {ms:.0f} ms in steps of {step_ms:.2f} ms")
    assert step_ms < STEP_MS


async def test_find_by_score_is_immediate(full: TestServer, admin: Admin) -> None:
    async def look() -> None:
        found = await admin.find(jid(MANY // 2), "dead", score=1_700_000_000 + MANY // 2)
        assert found.row is not None

    full.cli("CONFIG", "RESETSTAT")
    await look()
    assert "zrangebyscore:calls=1" in str(full.cli("INFO", "commandstats"))


async def test_stats_and_queues(full: TestServer, admin: Admin) -> None:
    ms, _ = await best(full, admin.stats)
    print(f"\nstats: {ms:.2f} ms")
    assert ms < PAGE_MS


@pytest.mark.parametrize("n", [40, MANY // 2 + 40, MANY - 40])
async def test_one_job_of_a_queue(full: TestServer, admin: Admin, n: int) -> None:
    """The documented cost: the newer, the longer."""
    page = await admin.jobs("queue:mail", page=n // 10 + 1, per=10)
    wanted = page.rows[n % 10]
    full.cli("CONFIG", "RESETSTAT")
    assert (await admin.delete(wanted)).done == 1
    ms, _ = spent(full)
    print(f"\ndelete job {n:,} of the queue: {ms:.2f} ms")
    full.cli("RPUSH" if n < MANY // 2 else "LPUSH", "queue:mail", wanted.raw)  # same size
    assert ms < 1000


async def test_a_page_of_the_dead_is_retried(full: TestServer, admin: Admin) -> None:
    rows = (await admin.jobs("dead", per=100)).rows
    full.cli("CONFIG", "RESETSTAT")
    assert (await admin.retry(rows)).done == 100
    ms, _ = spent(full)
    print(f"\nretry 100 of the dead set: {ms:.2f} ms")
    assert ms < PAGE_MS


async def test_clear_is_immediate(full: TestServer, admin: Admin) -> None:
    """Last: nothing is left after it."""
    for place in ("queue:mail", "dead"):
        full.cli("CONFIG", "RESETSTAT")
        assert await admin.clear(place) > MANY - 200
        ms, _ = spent(full)
        print(f"\nclear {place}: {ms:.2f} ms")
        assert ms < PAGE_MS

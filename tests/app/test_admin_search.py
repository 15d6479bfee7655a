"""`admin.search`, `admin.token` and `admin.locate`: to find jobs again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kiqpy import App, ArgumentError
from kiqpy.admin import Admin, Field
from tests.server import TestServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def admin(clean: TestServer) -> AsyncIterator[Admin]:
    async with App(redis_url=clean.url, queues={"mail": 5}).client_only() as app:
        yield app.admin


def put(server: TestServer, place: str, jid: str, at: float = 2e9, **fields: Any) -> None:
    job = {"class": "Send", "args": [1], "jid": jid, "queue": "mail", **fields}
    put_bytes(server, place, json.dumps(job, ensure_ascii=jid.endswith("a")).encode(), at)


def put_bytes(server: TestServer, place: str, raw: bytes, at: float = 2e9) -> None:
    if place.startswith("queue:"):
        server.cli("SADD", "queues", place.removeprefix("queue:"))
        server.cli("LPUSH", place, raw)
    else:
        server.cli("ZADD", {"scheduled": "schedule"}.get(place, place), at, raw)


PLACES = ("retry", "scheduled", "dead", "queue:mail")
every_place = pytest.mark.parametrize("place", PLACES)
TEXTS: list[tuple[str, Field]] = [
    ("Ström", "args"), ('"quoted"', "args"), ("back\\slash", "args"), ("new\nline", "args"),
    ("Überlauf", "error"), ("Odd.Class", "class"), ("odd-", "jid"), ("emea", "tags"),
]  # fmt: skip


@every_place
@pytest.mark.parametrize(("text", "field"), TEXTS)
async def test_text_is_found_however_it_is_escaped(
    place: str, text: str, field: Field, admin: Admin, clean: TestServer
) -> None:
    odd = ["Ström", {'"quoted"': "back\\slash", "deep": [["new\nline"]]}]
    for jid in ("odd-a", "odd-u"):  # one is written in ASCII
        put(clean, place, jid, args=odd, error_message="Überlauf", tags=["emea"],
            **{"class": "Odd.Class"})  # fmt: skip
    put(clean, place, "plain")
    for fields in ((), (field,), ("queue", field)):
        found = await admin.search(place, text, fields=fields)
        assert sorted(row.jid for row in found.rows) == ["odd-a", "odd-u"]
        assert (found.searched, found.cursor) == (3, None)
        assert {row.place for row in found.rows} == {place}
    others = [each for _, each in TEXTS if each != field]
    assert not (await admin.search(place, text, fields=others)).rows


@every_place
async def test_a_search_is_bounded_and_goes_on(place: str, admin: Admin, clean: TestServer) -> None:
    for n in range(1500):
        put(clean, place, f"j{n:04}", 2e9 + n)
    cursor, seen, calls = "", list[str](), 0
    while True:
        found = await admin.search(place, "j", cursor=cursor, limit=100, most=400)
        assert found.searched <= 500
        seen += [row.jid for row in found.rows]
        calls += 1
        if found.cursor is None:
            break
        cursor = found.cursor
    assert len(set(seen)) == 1500
    assert calls > 3


@every_place
async def test_a_token_names_an_entry_as_it_was(
    place: str, admin: Admin, clean: TestServer
) -> None:
    for jid in ("a", "b", "c"):
        put(clean, place, jid)
    put_bytes(clean, place, b"\xff unreadable")
    rows = (await admin.jobs(place)).rows
    tokens = [admin.token(row) for row in rows]
    assert len(set(tokens)) == 4
    assert max(map(len, tokens)) < 80
    found = await admin.locate(place, tokens)
    assert sorted(row.raw for row in found) == sorted(row.raw for row in rows)
    clean.cli("DEL", {"scheduled": "schedule"}.get(place, place))
    put(clean, place, "a", retry_count=1)
    put(clean, place, "b", 2e9 + 1, retry_count=1)
    assert await admin.locate(place, tokens) == []


async def test_what_is_deep_in_a_queue_is_located(admin: Admin, clean: TestServer) -> None:
    for n in range(2500):
        put(clean, "queue:mail", f"j{n:04}")
    deep = (await admin.jobs("queue:mail", page=1250, per=1)).rows
    tokens = [admin.token(row) for row in deep]
    assert [row.jid for row in await admin.locate("queue:mail", tokens)] == [deep[0].jid]
    assert await admin.locate("queue:mail", tokens, most=10) == []


async def test_a_jid_beyond_all_measure_does_not_make_a_token_long(
    admin: Admin, clean: TestServer
) -> None:
    put(clean, "dead", "j" * 100_000)
    row = (await admin.jobs("dead")).rows[0]
    assert len(admin.token(row)) < 80
    assert await admin.locate("dead", [admin.token(row)]) == [row]


async def test_what_makes_no_sense(admin: Admin) -> None:
    with pytest.raises(ArgumentError, match="needs a text"):
        await admin.search("dead", "")
    for bounds in ({"limit": 0}, {"most": 0}):
        with pytest.raises(ArgumentError, match="1 or more"):
            await admin.search("dead", "x", **bounds)
    with pytest.raises(ArgumentError, match="can't be written"):
        await admin.search("dead", "\ud800")
    for token in ("", "x", "a/b/c", "a/1.0"):
        with pytest.raises(ArgumentError, match="is no token of a row"):
            await admin.locate("dead", [token])

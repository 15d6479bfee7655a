"""Jobs full of markup and megabytes on every page; nonsense on every route."""

from __future__ import annotations

import json
import random
import string
from typing import Any
from urllib.parse import quote

import pytest

from kiqpy import App
from kiqpy.web import dashboard
from tests.server import TestServer
from tests.web.filled import failed, fill, put, put_process
from tests.web.visitor import Page, Visitor

pytestmark = pytest.mark.anyio
# Each would leave another trace: a tag, an attribute, a scheme, an end of some context.
MARKUP = [
    "<script>probe()</script>",
    "<img src=x onerror=probe()>",
    "<svg/onload=probe()>",
    '"><probe x="',
    "'><probe x='",
    "</textarea></title></style></script><probe>",
    "<!--<probe>-->",
    "<![CDATA[<probe>]]>",
    "javascript:probe()",
    "data:text/html,<script>probe()</script>",
    '" onmouseover="probe()',
    "' onfocus='probe()' autofocus='",
    "` onclick=`probe()`",
    "{{ probe }}{% probe %}{# probe #}",
    "${probe()}",
    "&lt;script&gt;probe()&lt;/script&gt;",
    "<scr<script>ipt>probe()</scr</script>ipt>",
    "\u202eprobe\u2066",
    "\x00<probe>\x1b[31m",
    "\ud800<probe>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<link rel=stylesheet href=//evil.example>",
    "<form action=//evil.example><button name=do value=delete>",
    "<iframe srcdoc='<script>probe()</script>'>",
    "+ADw-script+AD4-probe()+ADw-/script+AD4-",
    "\n\n<probe>\r\n",
    "%3Cprobe%3E%22",
]
HUGE = "<probe>" * 150_000  # a megabyte
SCHEMES = ("javascript:", "data:", "vbscript:", "//", "http")


def plant(server: TestServer, text: str) -> None:
    """One job in each place, and all else that has a text of others in it."""
    fields = {
        "class": text, "queue": text, "args": [text, {text: text}], "tags": [text, text],
        "error_class": text, "error_message": text, "error_backtrace": [text, text],
        "traceparent": text, "retry": text, text: text, "wrapped": text,
    }  # fmt: skip
    for place in ("schedule", "retry", "dead", "queue:mail"):
        put(server, place, failed("x1", **fields), failed(text, **fields))
        put(server, place, text.encode(errors="surrogatepass"))
    server.cli("SADD", "queues", text.encode(errors="surrogatepass"))
    server.cli("SADD", "paused", text.encode(errors="surrogatepass"))
    put_process(server, "x:1:a", {"t1": failed("run1", **fields)}, tag=text, labels=[text, text],
                queues=[text], hostname=text, version=text)  # fmt: skip


PAGES = (
    *(".", "queues", "queue?name=mail", "running", "scheduled", "retries", "dead", "processes"),
    *("periodic", "job?jid=x1", "job?jid=run1"),
)


def bare(page: Page) -> set[tuple[str, str]]:
    """Each tag with each of its attributes' names."""
    return {(tag, name) for tag, attrs in page.tags for name in (*attrs, "")}


async def harmless(visitor: Visitor, text: str, ordinary: dict[str, set[tuple[str, str]]]) -> None:
    for path in PAGES:
        page = await visitor.page(path)
        assert bare(page) <= ordinary[path], f"{path}: {bare(page) - ordinary[path]}"
        links = [
            *(page.attributes("a", "href") + page.attributes("form", "action")),
            *(page.attributes("script", "src") + page.attributes("link", "href")),
        ]
        assert not [link for link in links if link.lower().startswith(SCHEMES)]
        assert len(page.source) < 400_000, f"{path} is {len(page.source):,} characters"


@pytest.fixture
async def ordinary(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> dict[str, set[tuple[str, str]]]:
    """What the pages are made of when nobody means harm."""
    monkeypatch.setattr("kiqpy.web._numbers._MAX_AGE_S", 0.0)  # so that the graph begins at once
    plant(visitor.server, "plain")
    found = {path: bare(await visitor.page(path)) for path in PAGES}
    visitor.server.cli("FLUSHALL")
    plant(visitor.server, "a b")  # no name of a queue
    for path in (*PAGES, "."):
        found[path] |= bare(await visitor.page(path))
    visitor.server.cli("FLUSHALL")
    return found


async def test_markup_is_text(visitor: Visitor, ordinary: dict[str, set[tuple[str, str]]]) -> None:
    for text in MARKUP:
        visitor.server.cli("FLUSHALL")
        plant(visitor.server, text)
        await harmless(visitor, text, ordinary)
        page = await visitor.page("job?jid=x1")
        if text.isprintable():
            assert json.dumps(text, ensure_ascii=False) in page.main


async def test_a_megabyte_is_cut(
    visitor: Visitor, ordinary: dict[str, set[tuple[str, str]]]
) -> None:
    plant(visitor.server, HUGE)
    cut = ("p", ""), ("p", "class")
    wider = {path: {*tags, *cut} for path, tags in ordinary.items()}
    await harmless(visitor, HUGE, wider)
    assert "more characters are not shown" in (await visitor.page("job?jid=x1")).main


async def test_huge_jobs_can_be_acted_upon(visitor: Visitor) -> None:
    plant(visitor.server, HUGE)
    for place, page in (("dead", "dead"), ("queue:mail", "queue?name=mail")):
        tokens = (await visitor.page(page)).tokens
        assert len(tokens) == 3
        told = await visitor.press("delete", place=place, row=tokens, back=page)
        assert "Deleted: 3 jobs." in told


@pytest.mark.parametrize("text", MARKUP)
async def test_what_is_searched_for_is_text(text: str, visitor: Visitor) -> None:
    clean = bare(await visitor.page("dead?text=x"))
    given = quote(text, errors="replace")
    for path in (f"dead?text={given}", f"dead?text=x&field={given}", f"dead?newest={given}"):
        assert bare(await visitor.page(path)) <= clean
    for path in (f"queue?name={given}", f"job?jid={given}", f"nothing/{given}", f"job?row={given}"):
        answer = await visitor.get(path)
        assert answer.status_code in (400, 404)
        assert "probe" not in {tag for tag, _ in Page(answer.text).tags}
    sent = text.encode(errors="replace").decode()  # as a browser does
    form: dict[str, Any] = {"do": "delete", "scope": "match", "place": "dead"}
    answer = await visitor.post({**form, "text": sent, "back": sent})
    assert "probe" not in {tag for tag, _ in Page(answer.text).tags}


# -- nonsense


ROUTES = (
    *("", "queues", "queue", "running", "scheduled", "retries", "dead", "periodic", "processes"),
    *("job", "live", "act", "static/app.css", "static/", "nothing", "job/", "//", "a/../b"),
)
NAMES = ("page", "per", "text", "field", "newest", "cursor", "days", "name", "jid", "place", "row",
         "did", "done", "v")  # fmt: skip
ODD = (
    *("", "0", "-1", "1", "2", "99999999999999999999999", "1e9", "nan", "٣", "dead", "queue:mail"),
    *("queue:", "running", "class", "args", "d001", "a/1.0/d001", "a/nan/x", "a/inf/x", "//", "/"),
    *("\x00", "\ud800", "%", "é" * 300, "[" * 500, "' OR 1", "../../etc/passwd", "x" * 5000),
)


def nonsense(chance: random.Random) -> str:
    if chance.random() < 0.7:
        return chance.choice(ODD)
    return "".join(chance.choices(string.printable, k=chance.randrange(40)))


async def fuzz(visitor: Visitor, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        pairs = [(chance.choice(NAMES), nonsense(chance)) for _ in range(chance.randrange(5))]
        query = "&".join(f"{name}={quote(text, errors='replace')}" for name, text in pairs)
        path = f"{chance.choice(ROUTES)}?{query}"
        answer = await visitor.get(path)
        assert answer.status_code < 500, f"seed {seed}: {path}"
    for _ in range(rounds // 3):
        form: dict[str, Any] = {
            name: nonsense(chance).encode(errors="replace").decode()
            for name in ("place", "scope", "row", "target", "text", "field", "count", "back")
            if chance.random() < 0.7
        }
        form["do"] = chance.choice((*ACTIONS, nonsense(chance).encode(errors="replace").decode()))
        form["confirmed"] = chance.choice(("yes", "no"))
        answer = await visitor.post(form)
        assert answer.status_code < 500, f"seed {seed}: {form}"


ACTIONS = (
    *("retry", "requeue", "kill", "delete", "cancel", "pause", "resume", "clear", "quiet", "stop"),
    *("enable", "disable", "run_now"),
)


@pytest.mark.parametrize("seed", range(4))
async def test_no_route_ever_fails(
    seed: int, app: App, clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiqpy.web._live._STREAM_S", 0.0)
    fill(clean)
    plant(clean, '"><probe>')
    await fuzz(Visitor(dashboard(app), clean), seed, 300)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe=\x00", b"%", b"do=%ff%fe", b"&" * 10_000, b"=" * 99]
)
async def test_bodies_that_are_no_forms(body: bytes, visitor: Visitor) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "text/nonsense"}
    answer = await visitor.client.post("act", content=body, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("key", "kind"),
    [("queues", "SET"), ("dead", "SET"), ("retry", "LPUSH"), ("schedule", "SET"),
     ("queue:mail", "SET"), ("processes", "SET"), ("paused", "SET"), ("stat:processed", "LPUSH")],
)  # fmt: skip
async def test_keys_of_another_type(key: str, kind: str, visitor: Visitor) -> None:
    visitor.server.cli("DEL", key)
    visitor.server.cli(kind, key, "not what is expected")
    for path in PAGES:
        answer = await visitor.get(path)
        assert answer.status_code < 500 or answer.status_code == 503, f"{path} {key}"

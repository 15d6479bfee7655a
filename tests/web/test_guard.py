"""Who is let in, and which requests are another site's forgery: tables."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount

from kiqpy import App, ConfigError
from kiqpy.web import dashboard
from tests.server import TestServer
from tests.web.filled import failed, put
from tests.web.visitor import SAME_ORIGIN, Page, Visitor

pytestmark = pytest.mark.anyio
PAGES = (
    *(".", "queues", "queue?name=mail", "running", "scheduled", "retries", "dead", "periodic"),
    *("processes", "job?jid=d1", "live"),
)


def at(app: App, server: TestServer, client: str, host: str, **options: Any) -> Visitor:
    visitor = Visitor(dashboard(app, **options), server)
    visitor.client._transport.client = (client, 4242)  # type: ignore[attr-defined]
    visitor.client.headers["host"] = host
    return visitor


LOCAL = [
    ("127.0.0.1", "localhost:8787", {}, 200),
    ("127.8.9.1", "127.0.0.1", {}, 200),
    ("::1", "[::1]:8787", {}, 200),
    ("::ffff:127.0.0.1", "jobs.localhost", {}, 200),
    ("192.168.1.7", "localhost", {}, 403),
    ("192.168.1.7", "192.168.1.2:8787", {}, 403),
    ("", "localhost", {}, 403),
    ("unix", "localhost", {}, 403),
    # A name that an attacker's DNS points to this machine.
    ("127.0.0.1", "rebound.example:8787", {}, 403),
    ("127.0.0.1", "localhost.evil.example", {}, 403),
    ("127.0.0.1", "[::1", {}, 403),
    # A proxy on this machine speaks for the whole world.
    ("127.0.0.1", "localhost", {"X-Forwarded-For": "127.0.0.1"}, 403),
    ("127.0.0.1", "localhost", {"Forwarded": "for=1.2.3.4"}, 403),
    ("127.0.0.1", "localhost", {"X-Real-IP": "1.2.3.4"}, 403),
    ("127.0.0.1", "localhost", {"Via": "1.1 proxy"}, 403),
]


@pytest.mark.parametrize(("client", "host", "headers", "status"), LOCAL)
async def test_without_a_rule_only_this_machine_is_served(
    client: str, host: str, headers: dict[str, str], status: int, app: App, clean: TestServer
) -> None:
    visitor = at(app, clean, client, host)
    answer = await visitor.get("dead", **headers)
    assert answer.status_code == status
    if status == 403:
        assert "pass auth=authorize" in Page(answer.text).main
        assert "KIQPY_WEB_AUTH=name:password" in Page(answer.text).main
    assert (await visitor.get("static/app.css")).status_code == 200


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_guarded(path: str, app: App, clean: TestServer) -> None:
    visitor = at(app, clean, "10.0.0.9", "jobs.example")
    assert (await visitor.get(path)).status_code == 403
    refused = Visitor(dashboard(app, auth=lambda request, action: False), clean)
    assert (await refused.get(path)).status_code == 403


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


BASIC = [
    ({}, 401),
    (basic("ops:s3cret:with:colons"), 200),
    (basic("ops:s3cret"), 401),
    (basic("ops:"), 401),
    (basic("OPS:s3cret:with:colons"), 401),
    ({"Authorization": "Basic not!base64"}, 401),
    ({"Authorization": "Basic"}, 401),
    ({"Authorization": "Bearer " + base64.b64encode(b"ops:s3cret:with:colons").decode()}, 401),
]


@pytest.mark.parametrize(("headers", "status"), BASIC)
async def test_basic_authentication(
    headers: dict[str, str],
    status: int,
    app: App,
    clean: TestServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KIQPY_WEB_AUTH", "ops:s3cret:with:colons")
    visitor = at(app, clean, "10.0.0.9", "jobs.example")
    answer = await visitor.get("dead", **headers)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    done = await visitor.post({"do": "pause", "target": "mail"}, **headers)
    assert done.status_code == (303 if status == 200 else 401)


@pytest.mark.parametrize("text", ["", "ops", "ops:", ":secret"])
async def test_a_password_that_is_none(
    text: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIQPY_WEB_AUTH", text)
    with pytest.raises(ConfigError, match="give name:password"):
        dashboard(app)


# Headers of a POST, and whether it is done. The host is localhost:8787.
FORGERIES: list[tuple[dict[str, str], int]] = [
    ({"Sec-Fetch-Site": "same-origin"}, 303),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8787"}, 303),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 403),
    ({"Sec-Fetch-Site": ""}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8787"}, 403),
    ({"Origin": "http://localhost:8787"}, 303),  # a browser, without TLS
    ({"Origin": "http://localhost"}, 403),
    ({"Origin": "http://localhost:9999"}, 403),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://localhost:8787.evil.example"}, 403),
    ({"Origin": "http://[bad"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Referer": "http://localhost:8787/dead"}, 403),
    ({}, 403),
]


@pytest.mark.parametrize(("headers", "status"), FORGERIES)
async def test_forgeries(
    headers: dict[str, str], status: int, visitor: Visitor, clean: TestServer
) -> None:
    form = {"do": "pause", "target": "mail"}
    answer = await visitor.client.post("act", data=form, headers=headers)
    assert answer.status_code == status
    assert clean.cli("SISMEMBER", "paused", "mail") == int(status == 303)
    if status == 403:
        assert "did not come from a page of this dashboard" in Page(answer.text).main


async def test_a_proxy_that_changes_the_host(app: App, clean: TestServer) -> None:
    visitor = at(app, clean, "10.0.0.1", "backend:80", auth=lambda request, action: True)
    headers = {"Origin": "https://jobs.example", "X-Forwarded-Host": "jobs.example"}
    form = {"do": "pause", "target": "mail"}
    assert (await visitor.client.post("act", data=form, headers=headers)).status_code == 303


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_a_post_acts(method: str, visitor: Visitor, clean: TestServer) -> None:
    answer = await visitor.client.request(method, "act?do=pause&target=mail", headers=SAME_ORIGIN)
    assert answer.status_code == 405
    assert clean.cli("SISMEMBER", "paused", "mail") == 0


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_pages_are_only_read(method: str, path: str, visitor: Visitor) -> None:
    assert (await visitor.client.request(method, path)).status_code == 405


async def test_read_only(app: App, clean: TestServer) -> None:
    put(clean, "dead", failed("d1"))
    visitor = Visitor(dashboard(app, read_only=True), clean)
    for path in ("dead", "queues", "queue?name=mail", "periodic", "processes", "job?jid=d1"):
        page = await visitor.page(path)
        assert not page.buttons, path
        assert not page.tokens, path
    answer = await visitor.post({"do": "clear", "target": "mail", "confirmed": "yes"})
    assert answer.status_code == 403
    assert "read-only" in Page(answer.text).main


async def test_the_hook_is_asked_for_each_action(app: App, clean: TestServer) -> None:
    asked: list[str] = []

    async def may(request: Request, action: str) -> str | bool:
        asked.append(action)
        return "ann" if action in ("view", "pause") else False

    visitor = Visitor(dashboard(app, auth=may), clean)
    assert "Paused." in await visitor.press("pause", target="mail")
    for do in ("resume", "clear", "run_now", "delete", "retry", "stop"):
        answer = await visitor.post({"do": do, "target": "mail", "confirmed": "yes"})
        assert answer.status_code == 403
        assert f"not allowed to {do.replace('_', ' ')} here" in Page(answer.text).main
    assert asked == ["pause", "view", "resume", "clear", "run_now", "delete", "retry", "stop"]
    assert clean.cli("SISMEMBER", "paused", "mail") == 1


async def test_the_hook_answers_itself(app: App, clean: TestServer) -> None:
    login = dashboard(app, auth=lambda request, action: RedirectResponse("/login"))
    answer = await Visitor(login, clean).get("dead")
    assert answer.headers["location"] == "/login"
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", [*PAGES, "static/app.js", "nothing", "job?jid=nobody"])
async def test_every_answer_has_the_headers(
    path: str, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiqpy.web._live._STREAM_S", 0.0)
    headers = (await visitor.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"  # no-referrer would hide the Origin
    if not path.startswith("static"):
        assert "no-store" in headers["cache-control"]


# -- under any path


@pytest.fixture
async def mounted(app: App, clean: TestServer) -> Visitor:
    inner = Starlette(routes=[Mount("/jobs", dashboard(app))])
    outer = Starlette(routes=[Mount("/admin", inner)])
    visitor = Visitor(outer, clean)
    visitor.client.base_url = "http://localhost:8787/admin/jobs/"
    return visitor


async def test_under_a_mount_path_everything_works(mounted: Visitor, clean: TestServer) -> None:
    put(clean, "dead", failed("d1"))
    for path in (".", "dead", "queues", "job?jid=d1"):
        page = await mounted.page(path)
        for link in [*page.attributes("a", "href"), *page.attributes("form", "action")]:
            assert not link.startswith("/"), "it would leave the mount path"
        for link in [*page.attributes("link", "href"), *page.attributes("script", "src")]:
            assert (await mounted.get(link)).status_code == 200
    token = (await mounted.page("dead")).tokens[0]
    said = await mounted.press("delete", place="dead", row=token, back="dead")
    assert said == "Deleted: 1 job."


async def test_an_error_below_a_folder_finds_its_style(mounted: Visitor) -> None:
    answer = await mounted.get("no/such/page")
    assert answer.status_code == 404
    style = Page(answer.text).attributes("link", "href")[-1]
    assert style.startswith("../../static/")


async def test_without_a_slash_it_leads_into_the_folder(app: App, clean: TestServer) -> None:
    site = dashboard(app)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await site({**scope, "root_path": "/x/jobs"}, receive, send)

    visitor = Visitor(bare, clean)
    visitor.client.base_url = "http://localhost:8787/x/"
    answer = await visitor.get("jobs")
    assert (answer.status_code, answer.headers["location"]) == (307, "jobs/")

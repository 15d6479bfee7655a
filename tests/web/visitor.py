"""A browser without a screen: asks for pages and presses buttons, as far as HTTP goes."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.server import TestServer

Words = str | list[str]
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class Visitor:
    """Of one dashboard."""

    def __init__(self, dashboard: Any, server: TestServer, **sent: Any) -> None:
        transport = httpx.ASGITransport(dashboard, client=("127.0.0.1", 4242))
        self.server = server
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://localhost:8787/", timeout=30, **sent
        )

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(self.url(path), headers=headers)

    def url(self, link: str) -> str:
        """Where a link of a page leads, as a browser sees it."""
        return urljoin(str(self.client.base_url), link)

    async def page(self, path: str) -> Page:
        """A page that must be there."""
        answer = await self.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {Page(answer.text).text}"
        return Page(answer.text)

    async def post(self, fields: dict[str, Words], **headers: str) -> httpx.Response:
        return await self.client.post(self.url("act"), data=fields, headers=SAME_ORIGIN | headers)

    async def press(self, do: str, **fields: Words) -> str:
        """Press a button, say yes if asked, and read what the page says then."""
        form: dict[str, Words] = {"do": do, **fields}
        answer = await self.post(form)
        if answer.status_code == 200:
            form |= Page(answer.text).hidden_fields
            answer = await self.post(form)
        assert answer.status_code == 303, f"{answer.status_code}: {Page(answer.text).text}"
        page = await self.page(answer.headers["location"])
        return page.notice


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    @property
    def notice(self) -> str:
        found = re.search(r'<p class="notice" role="status">(.*?)</p>', self.source, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    @property
    def main(self) -> str:
        """The text between the navigation and the footer."""
        found = re.search(r"<main.*?</main>", self.source, re.DOTALL)
        assert found is not None
        return Page(found[0]).text

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for each, attrs in self.tags if each == tag and name in attrs]

    @property
    def tokens(self) -> list[str]:
        return [a["value"] or "" for t, a in self.tags if t == "input" and a.get("name") == "row"]

    @property
    def hidden_fields(self) -> dict[str, Words]:
        """Of the form in the page's middle."""
        return {
            str(a["name"]): a.get("value") or ""
            for t, a in self.tags
            if t == "input" and a.get("type") == "hidden" and a["name"] != "row"
        }

    @property
    def buttons(self) -> list[str]:
        return [a["value"] or "" for t, a in self.tags if t == "button" and a.get("name") == "do"]

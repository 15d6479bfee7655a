"""Shared by all pages: the app, the templates, and the numbers in the navigation."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from importlib.resources import files
from typing import Final, NamedTuple, Protocol, cast, final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from kiqpy._runtime.periodics import Periodics
from kiqpy.admin import Admin
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.web import _format as to
from kiqpy.web._actions import ACTIONS, words_of
from kiqpy.web._guard import Guard
from kiqpy.web._links import link, queue_link
from kiqpy.web._numbers import INTERVAL_S, Numbers
from kiqpy.web._query import Notice, Query, here
from kiqpy.web._rows import Views

_MEDIA: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class JobsApp(Protocol):
    """The app as the dashboard uses it; it must be started, if only as a client."""

    name: str

    @property
    def config(self) -> Config: ...

    @property
    def admin(self) -> Admin: ...

    @property
    def cron(self) -> Periodics: ...


class StaticFile(NamedTuple):
    """A file of the package."""

    body: bytes
    media_type: str
    version: str


class SiteOptions(NamedTuple):
    """The options of `dashboard` that change how pages look."""

    title: str
    trace_url: str | None


def static_files() -> dict[str, StaticFile]:
    """The style sheet, the script, the icon; read once."""
    found: dict[str, StaticFile] = {}
    for path in files("kiqpy.web").joinpath("static").iterdir():
        kind = path.name.rpartition(".")[2]
        if kind in _MEDIA:
            body = path.read_bytes()
            found[path.name] = StaticFile(
                body, _MEDIA[kind], hashlib.blake2b(body, digest_size=6).hexdigest()
            )
    return found


def _templates(static: dict[str, StaticFile]) -> Environment:
    environment = Environment(
        loader=PackageLoader("kiqpy.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    # Checkers take the values that Jinja begins with for all that it can have.
    filters = cast("MutableMapping[str, object]", environment.filters)
    filters.update(
        clip=to.clip,
        iso=to.iso,
        number=to.number,
        rate=to.rate,
        relative=to.relative,
        span=to.span,
        utc=to.utc,
    )
    known = cast("MutableMapping[str, object]", environment.globals)
    known.update(
        actions=ACTIONS,
        link=link,
        queue_link=queue_link,
        versions={name: file.version for name, file in static.items()},
    )
    return environment


@final
class Site:
    """The dashboard of one app."""

    def __init__(
        self, app: JobsApp, guard: Guard, views: Views, clock: Clock, options: SiteOptions
    ) -> None:
        self.app = app
        self.guard = guard
        self.views = views
        self.clock = clock
        self.options = options
        self.static = static_files()
        self.numbers = Numbers(lambda: app.admin, clock)
        self._templates = _templates(self.static)

    @property
    def admin(self) -> Admin:
        return self.app.admin

    async def render(self, request: Request, template: str, **context: object) -> Response:
        """A page with the navigation around it."""
        given = {"query": Query.of(request), "stats": await self.numbers.latest(), **context}
        return self._response(request, template, given)

    async def render_error(
        self, request: Request, status: int, why: str, headers: dict[str, str] | None = None
    ) -> Response:
        """A page that says why there is no other; it needs nothing that could be missing."""
        context: dict[str, object] = {"query": None, "stats": None, "status": status, "why": why}
        response = self._response(request, "error.html", context, status)
        response.headers.update(headers or {})
        return response

    def _response(
        self, request: Request, template: str, given: dict[str, object], status: int = 200
    ) -> Response:
        notice = Notice.of(request)
        context = {
            "title": self.options.title,
            "base": "../" * _depth(request),
            "here": here(request),
            "now": self.clock.now(),
            "read_only": self.guard.read_only,
            "notice": words_of(notice) if notice else "",
            "interval_ms": int(INTERVAL_S * 1000),
            **given,
        }
        text = self._templates.get_template(template).render(context)
        # Half a surrogate pair, which JSON may hold and UTF-8 may not.
        body = text.encode("utf-8", "replace")
        return Response(body, status, media_type="text/html; charset=utf-8")


def _depth(request: Request) -> int:
    """How many folders the page seems to be in; only error pages can be in one."""
    path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return max(0, path.count("/") - 1)

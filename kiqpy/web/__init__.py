"""The dashboard: jobs, queues and processes as web pages, with buttons. Needs `kiqpy[web]`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kiqpy.clock import SystemClock
from kiqpy.errors import (
    ArgumentError,
    ConfigError,
    KiqError,
    LifecycleError,
    StoreRefused,
    StoreUnavailable,
)
from kiqpy.web import _look
from kiqpy.web._act import act
from kiqpy.web._guard import Answered, Authorize, Credentials, Guard, Refused
from kiqpy.web._headers import SecurityHeaders
from kiqpy.web._live import Live
from kiqpy.web._rows import Redact, Views
from kiqpy.web._site import JobsApp, Site, SiteOptions

__all__ = ["ASGIApp", "Authorize", "JobsApp", "Redact", "dashboard"]

_Page = Callable[[Site, Request], Awaitable[Response]]
_PAGES: Final[dict[str, _Page]] = {
    "/": _look.overview,
    "/queues": _look.queues,
    "/queue": _look.queue,
    "/running": _look.running,
    "/scheduled": _look.scheduled,
    "/retries": _look.retries,
    "/dead": _look.dead,
    "/periodic": _look.periodic,
    "/processes": _look.processes,
    "/job": _look.job,
}
_STATUS: Final = (  # the first that fits
    (StoreUnavailable, 503),
    (LifecycleError, 503),
    (StoreRefused, 409),
    (ArgumentError, 400),
    (ConfigError, 400),
)


def dashboard(
    app: JobsApp,
    *,
    auth: Authorize | None = None,
    read_only: bool = False,
    title: str = "kiqpy",
    redact: Redact | None = None,
    trace_url: str | None = None,
) -> ASGIApp:
    """An ASGI app that shows and steers the jobs of `app`: `web.mount("/jobs", dashboard(app))`.

    `app` must be started in the same event loop, if only as a client. `auth(request, action)`,
    async or not, is asked for each page (action "view") and each action ("retry", "pause", ...):
    False or None refuses, True or the name of the user lets it through, a Response is the answer.
    Without it, and without KIQPY_WEB_AUTH=name:password in the environment, only browsers on this
    machine are served. `read_only`: no buttons, and no action. `redact(job)` returns what is shown
    in place of a job's arguments. `trace_url` leads to a trace, with "{trace_id}" in it.
    Raises ConfigError if KIQPY_WEB_AUTH makes no sense.
    """
    guard = Guard(auth, Credentials.of(os.environ), read_only)
    site = Site(app, guard, Views(redact), SystemClock(), SiteOptions(title, trace_url))
    pages = [_route(path, page, site) for path, page in _PAGES.items()]
    routes = [
        *pages,
        _route("/live", Live(), site),
        Route("/act", _acting(site), methods=["POST"]),
        Route("/static/{name}", _static(site)),
    ]
    starlette = Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers=_handlers(site),
    )
    starlette.router.redirect_slashes = False  # it would name a host that a proxy has changed
    return starlette


def _route(path: str, page: _Page, site: Site) -> Route:
    async def endpoint(request: Request) -> Response:
        await site.guard.admit_view(request)
        return await page(site, request)

    return Route(path, endpoint, methods=["GET"])


def _acting(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await act(site, request)

    return endpoint


def _static(site: Site) -> Callable[[Request], Awaitable[Response]]:
    """Without a guard: a page that refuses wants its style, too, and nothing in here is secret."""

    async def endpoint(request: Request) -> Response:
        file = site.static.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        current = request.query_params.get("v") == file.version
        caching = "public, max-age=31536000, immutable" if current else "no-cache"
        return Response(file.body, media_type=file.media_type, headers={"Cache-Control": caching})

    return endpoint


def _handlers(site: Site) -> dict[type[Exception], Callable[..., Awaitable[Response]]]:
    async def refused(request: Request, error: Refused) -> Response:
        return await site.render_error(request, error.status, error.why, error.headers)

    async def answered(_request: Request, error: Answered) -> Response:
        return error.response

    async def not_found(request: Request, error: HTTPException) -> Response:
        folder = request.scope.get("root_path", "").rpartition("/")[2]
        if folder and request.scope["path"] == request.scope["root_path"]:
            return RedirectResponse(f"{folder}/")  # or relative links would miss the folder
        headers = dict(error.headers or {})
        return await site.render_error(request, error.status_code, error.detail, headers)

    async def failed(request: Request, error: KiqError) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 400)
        return await site.render_error(request, status, str(error))

    return {Refused: refused, Answered: answered, HTTPException: not_found, KiqError: failed}

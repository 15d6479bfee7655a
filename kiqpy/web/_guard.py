"""Who may see the dashboard and act through it, and which requests are another site's forgery."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Final, NamedTuple, final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from kiqpy.errors import ConfigError

Permission = bool | str | Response | None
Authorize = Callable[[Request, str], Permission | Awaitable[Permission]]
AUTH_VARIABLE: Final = "KIQPY_WEB_AUTH"
VIEW: Final = "view"
_FORWARDED: Final = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
    *("x-forwarded-prefix", "x-real-ip"),
)
_NOT_LOCAL: Final = (
    "Nobody has said who may use this dashboard, so it answers only browsers on the machine "
    "it runs on, and no proxy. To open it to others, pass auth=authorize, a function of (request, "
    f"action), to dashboard(); or set {AUTH_VARIABLE}=name:password in its environment."
)
_FOREIGN: Final = (
    "This request did not come from a page of this dashboard, so nothing was done. Open the "
    "dashboard and press the button there. A program sends the header Sec-Fetch-Site: same-origin."
)


class Refused(Exception):
    """The request is answered with a page that says why not."""

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = dict(headers or {})


class Answered(Exception):
    """The authorize hook has an answer of its own, such as a redirect to a login page."""

    def __init__(self, response: Response) -> None:
        super().__init__("answered by the authorize hook")
        self.response = response


class Credentials(NamedTuple):
    """Of HTTP basic authentication."""

    name: str
    password: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials | None:
        """What KIQPY_WEB_AUTH says; ConfigError if it is not name:password."""
        text = environ.get(AUTH_VARIABLE)
        if text is None:
            return None
        name, _, password = text.partition(":")
        if not name or not password:
            raise ConfigError(f"{AUTH_VARIABLE}: give name:password, neither of them empty")
        return cls(name, password)

    def are_in(self, header: str) -> bool:
        """Whether an Authorization header holds them; it takes as long for a near miss."""
        scheme, _, packed = header.partition(" ")
        try:
            given = base64.b64decode(packed.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        right = hmac.compare_digest(given, f"{self.name}:{self.password}".encode())
        return right and scheme.lower() == "basic"


@final
class Guard:
    """Lets a request through, and says in whose name; or raises Refused or Answered."""

    def __init__(
        self, authorize: Authorize | None, credentials: Credentials | None, read_only: bool
    ) -> None:
        self._authorize = authorize
        self._credentials = credentials
        self.read_only = read_only

    async def admit_view(self, request: Request) -> str:
        """The name of the visitor; empty if it is unknown."""
        return await self._admit(request, VIEW)

    async def admit_action(self, request: Request, action: str) -> str:
        """The name of the visitor who pressed a button."""
        refuse_foreign(request)
        name = await self._admit(request, action)
        if self.read_only:
            raise Refused(403, "This dashboard is read-only: it shows, and changes nothing.")
        return name

    async def _admit(self, request: Request, action: str) -> str:
        name = self._signed_in(request)
        if self._authorize is None:
            if self._credentials is None and not is_local(request):
                raise Refused(403, _NOT_LOCAL)
            return name
        verdict = self._authorize(request, action)
        if isawaitable(verdict):
            verdict = await verdict
        if isinstance(verdict, Response):
            raise Answered(verdict)
        if not verdict:
            raise Refused(403, f"You are not allowed to {action.replace('_', ' ')} here.")
        return verdict if isinstance(verdict, str) else name

    def _signed_in(self, request: Request) -> str:
        if self._credentials is None:
            return ""
        if not self._credentials.are_in(request.headers.get("authorization", "")):
            challenge = {"WWW-Authenticate": 'Basic realm="kiqpy", charset="UTF-8"'}
            raise Refused(401, "Name and password are needed.", challenge)
        return self._credentials.name


def is_local(request: Request) -> bool:
    """Whether a browser on this machine asks, itself, for a name of this machine.

    A name of another's that points here (DNS rebinding) is none.
    """
    client = request.client.host if request.client else ""
    if not _is_loopback(client) or any(name in request.headers for name in _FORWARDED):
        return False
    host = _host_name(request.headers.get("host", ""))
    return host == "localhost" or host.endswith(".localhost") or _is_loopback(host)


def refuse_foreign(request: Request) -> None:
    """Raise Refused for a request that no page of this site has sent."""
    if not is_same_origin(request):
        raise Refused(403, _FOREIGN)


def is_same_origin(request: Request) -> bool:
    """Whether a page of this site has sent it, by Sec-Fetch-Site.

    Browsers leave that out where there is no TLS; then Origin must name the host that was asked.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = _origin_host(request.headers.get("origin", ""))
    # No page of another site can make a browser send a X-Forwarded-Host of its choice.
    asked = (request.headers.get("host"), request.headers.get("x-forwarded-host"))
    return bool(origin) and origin in [host.lower() for host in asked if host]


def _origin_host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

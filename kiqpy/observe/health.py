"""How an app is: a report of its parts, and `/live` and `/ready` for whoever watches the process.

Busy is not stuck. A job that takes long, a full pool of threads, a paused queue are told of, and
make an app neither dead nor unready.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal, NamedTuple, final

from kiqpy._payload.json import encode

JSON: Final = "application/json"
PROBES: Final = ("live", "ready")
_Message = MutableMapping[str, Any]


class HealthCheck(NamedTuple):
    """One part of an app. `ok`: nothing is wrong with it; else `why` says what is.

    `since`: epoch seconds at which that began, as far as this process knows; None if it is ok.
    `impairs`: what a report therefore is not, None if it is both live and ready all the same.
    """

    name: str
    ok: bool = True
    why: str = ""
    since: float | None = None
    impairs: Literal["live", "ready"] | None = None


class Health(NamedTuple):
    """All checks of an app at one moment.

    `live`: restarting the process would help no more than waiting. `ready`: it takes jobs in, and
    a server claims them.
    """

    checks: tuple[HealthCheck, ...]

    @property
    def live(self) -> bool:
        """False: the process will not recover, and is to be restarted."""
        return all(check.impairs != "live" for check in self.checks)

    @property
    def ready(self) -> bool:
        """False: wait, or let others do the work."""
        return all(check.impairs is None for check in self.checks)

    def failed(self) -> tuple[HealthCheck, ...]:
        """The checks that are not ok."""
        return tuple(check for check in self.checks if not check.ok)

    def replaced(self, check: HealthCheck) -> Health:
        """The same with this check in place of the one with its name."""
        others = (each for each in self.checks if each.name != check.name)
        return Health((*others, check))

    def to_json(self) -> bytes:
        """`live`, `ready` and `checks`, as the probes answer them."""
        checks = [check._asdict() for check in self.checks]
        return encode({"live": self.live, "ready": self.ready, "checks": checks})


def status_of(health: Health, probe: str) -> int:
    """HTTP's status for a probe: 200 or 503; 404 for one that is none."""
    if probe not in PROBES:
        return 404
    return 200 if (health.live if probe == "live" else health.ready) else 503


@final
class HealthProbes:
    """`/live` and `/ready` as an ASGI app that needs no framework, under any path."""

    def __init__(self, report: Callable[[], Awaitable[Health]]) -> None:
        self._report = report

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http":
            await self._answer(scope, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await _live_through(receive, send)

    async def _answer(self, scope: _Message, send: Callable[[_Message], Awaitable[None]]) -> None:
        probe = str(scope["path"]).rstrip("/").rpartition("/")[2]
        status, body = 404, b'{"probes":["live","ready"]}'
        if scope["method"] not in ("GET", "HEAD"):
            status = 405
        elif probe in PROBES:
            health = await self._report()
            status, body = status_of(health, probe), health.to_json()
        headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})


async def _live_through(
    receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """A server that runs the probes by themselves asks for a lifespan, too."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

"""The numbers as server-sent events, for as long as a page is open."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Final, final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kiqpy.errors import KiqError
from kiqpy.web._guard import Refused
from kiqpy.web._numbers import INTERVAL_S
from kiqpy.web._site import Site

# Browsers connect again by themselves; a server that is to stop waits no longer than this.
_STREAM_S: Final = 15.0
_RETRY_MS: Final = 1000
_MAX_STREAMS: Final = 100
_NAMES: Final = (
    *("processed", "failed", "enqueued", "scheduled", "retry", "dead", "processes", "busy"),
)


@final
class Live:
    """Streams to all pages that are open."""

    def __init__(self) -> None:
        self._open = 0

    async def __call__(self, site: Site, request: Request) -> Response:
        if self._open >= _MAX_STREAMS:
            raise Refused(503, "Too many pages are open: this one is not live.")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(site), media_type="text/event-stream", headers=headers
        )

    async def _events(self, site: Site) -> AsyncGenerator[str]:
        self._open += 1
        try:
            yield f"retry: {_RETRY_MS}\n\n"
            end = site.clock.monotonic() + _STREAM_S
            while site.clock.monotonic() < end:
                yield await _event(site)
                await site.clock.sleep(INTERVAL_S)
        finally:
            self._open -= 1


async def _event(site: Site) -> str:
    try:
        stats = await site.numbers.latest()
    except KiqError as error:
        return f"event: away\ndata: {json.dumps(str(error))}\n\n"
    numbers = {name: getattr(stats, name) for name in _NAMES}
    return f"event: stats\ndata: {json.dumps(numbers)}\n\n"

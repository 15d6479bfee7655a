"""Who listens to what: handlers by event name, called at once, never in the way."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable
from typing import Any, final

from kiqpy.event import Event

Handler = Callable[[Any], object]
_log = logging.getLogger("kiqpy")


@final
class Bus:
    """Synchronous handlers. What they raise is logged and goes no further."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str, Handler]] = []
        self._known: dict[type[Event], list[Handler]] = {}

    def attach(self, pattern: str, handler: Handler) -> None:
        """Call `handler(event)` for each event whose name matches, e.g. `job.*`."""
        self._handlers.append((pattern, handler))
        self._known.clear()

    def detach(self, handler: Handler) -> None:
        """Stop calling `handler`, whatever it was attached to."""
        self._handlers = [pair for pair in self._handlers if pair[1] != handler]
        self._known.clear()

    def handlers(self, kind: type[Event]) -> list[Handler]:
        """Who hears events of this kind; empty: do not even make one."""
        found = self._known.get(kind)
        if found is None:
            found = [h for pattern, h in self._handlers if fnmatch.fnmatch(kind.name, pattern)]
            self._known[kind] = found
        return found

    def emit(self, event: Event) -> None:
        """Call the handlers of an event, in the order in which they were attached."""
        for handler in self.handlers(type(event)):
            try:
                handler(event)
            except Exception:
                _log.exception("a handler of %s raised", event.name)

"""The part of an app that tells of what happens."""

from __future__ import annotations

from kiqpy._reporting.bus import Bus, Handler
from kiqpy._reporting.stream import EventStream


class EventsFace:
    """Events as they happen, for handlers and as a stream."""

    _bus: Bus

    def attach(self, pattern: str, handler: Handler) -> None:
        """Call `handler(event)` for events whose name matches, such as `job.success`, `job.*`.

        Handlers are called in the event loop and must be quick. What they raise is logged. From
        any thread, at any time; counts from the next event. ConfigError: no event has such a name,
        or the handler is async.
        """
        self._bus.attach(pattern, handler)

    def detach(self, handler: Handler) -> None:
        """Stop calling `handler`, whatever it was attached to. From any thread, at any time."""
        self._bus.detach(handler)

    def events(self, *patterns: str, queue: str | None = None, limit: int = 1000) -> EventStream:
        """Events as they come: `async with jobs.events("job.*") as stream: async for event in ...`.

        Those whose name matches one of the patterns (none given: all), of one queue if it is named.
        At most `limit` wait; then the oldest are dropped, `stream.dropped` says how many. It ends
        when the app has stopped. ConfigError for a pattern that no event matches.
        """
        return EventStream(self._bus, patterns, queue, limit)

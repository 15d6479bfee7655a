"""Handlers by event name, called at once; what they raise is logged and goes no further."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, final

from kiqpy._flow.forks import forget_in_child
from kiqpy.errors import ConfigError, suggest
from kiqpy.event import Event

Handler = Callable[[Any], object]
_log = logging.getLogger("kiqpy")


def matching(patterns: Iterable[str]) -> list[str]:
    """The names of the events that match any of them; ConfigError for one that matches none."""
    names = {kind.name for kind in Event.__subclasses__()}
    found: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f'{pattern!r} is no pattern: give an event\'s name, or "job.*"')
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            hint = suggest(pattern, sorted(names), 0.5) or "known: " + ", ".join(sorted(names))
            raise ConfigError(f"no event matches {pattern!r}; {hint}")
        found |= matched
    return sorted(found)


@final
class Bus:
    """Synchronous handlers, called where the event is emitted: in the app's event loop.

    What they raise is logged and goes no further. `attach` and `detach` may be called from any
    thread and take effect with the next event.
    """

    def __init__(self) -> None:
        self.listened: frozenset[str] = frozenset()  # names of events that have a handler
        self._handlers: list[tuple[frozenset[str], Handler]] = []
        self._known: dict[type[Event], list[Handler]] = {}
        self._ends: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        """In a forked child: whoever held the lock is the parent's, and who waits there, too."""
        self._lock = threading.Lock()
        self._ends = []

    def attach(self, pattern: str, handler: Handler) -> None:
        """Call `handler(event)` for each event whose name matches, e.g. `job.*`.

        ConfigError if no event's name can match, or the handler is async.
        """
        names = frozenset(matching([pattern]))
        if not callable(handler) or inspect.iscoroutinefunction(handler):
            raise ConfigError(
                f"{handler!r} can't be attached: give a function that is not async, or use "
                "app.events(...), or a Reporter"
            )
        with self._lock:
            self._change([*self._handlers, (names, handler)])

    def detach(self, handler: Handler) -> None:
        """Stop calling `handler`, whatever it was attached to."""
        with self._lock:
            self._change([pair for pair in self._handlers if pair[1] != handler])

    def on_end(self, call: Callable[[], object]) -> None:
        """Call it, once, when no further event comes: the app has stopped. From any thread."""
        with self._lock:
            self._ends.append(call)

    def forget_end(self, call: Callable[[], object]) -> None:
        """Do not call it any more. From any thread."""
        with self._lock:
            self._ends = [each for each in self._ends if each != call]

    def end(self) -> None:
        """The app has stopped: call those who wait for that."""
        with self._lock:
            ends, self._ends = self._ends, []
        for call in ends:
            call()

    def _change(self, handlers: list[tuple[frozenset[str], Handler]]) -> None:
        self._handlers = handlers
        self.listened = frozenset[str]().union(*(names for names, _ in handlers))
        self._known = {}  # after the handlers: a thread that sees it empty sees them, too

    def has_listeners(self, kind: type[Event]) -> bool:
        """Whether an event of this kind has a handler; if not, do not even make one."""
        return kind.name in self.listened

    def handlers(self, kind: type[Event]) -> list[Handler]:
        """The handlers of events of this kind."""
        known = self._known
        found = known.get(kind)
        if found is None:
            found = [handler for names, handler in self._handlers if kind.name in names]
            known[kind] = found
        return found

    def emit(self, event: Event) -> None:
        """Call the handlers of an event, in the order in which they were attached."""
        for handler in self.handlers(type(event)):
            try:
                handler(event)
            except (Exception, asyncio.CancelledError, SystemExit):  # none of it is ours
                _log.exception("a handler of %s raised", event.name)

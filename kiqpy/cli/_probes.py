"""`/live` and `/ready` of a process, answered in a thread, also while its loop is blocked."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as Late
from typing import Final, final

from kiqpy.app import App
from kiqpy.cli._screen import say
from kiqpy.cli.fleet.listener import HttpAnswer, Listener, address_of
from kiqpy.cli.fleet.supervisor import PROBES
from kiqpy.clock import Clock, SystemClock
from kiqpy.errors import ConfigError
from kiqpy.observe.health import JSON, Health, HealthCheck, status_of

_ANSWER_S: Final = 0.7  # a report takes half a second at most, unless the loop is blocked


@final
class ProcessProbes:
    """Asks the app in its event loop; if no answer comes, says for how long the loop is silent.

    `answer` is called in other threads than the loop's.
    """

    def __init__(self, app: App, clock: Clock | None = None) -> None:
        self._app = app
        self._clock = clock or SystemClock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = Health((HealthCheck("app", False, "the process starts", None, "ready"),))
        self._open: Future[Health] | None = None
        self._asked_at = 0.0
        self._lock = threading.Lock()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on ask in this event loop."""
        self._loop = loop

    def answer(self, path: str) -> HttpAnswer:
        """The answer to `/live` or `/ready`."""
        with self._lock:
            health = self._health()
        return HttpAnswer(status_of(health, path.strip("/")), JSON, health.to_json())

    def _health(self) -> Health:
        """How the app is now; what it said last, if its loop is blocked."""
        if self._loop is None:
            return self._last
        try:
            self._last = self._ask(self._loop).result(_ANSWER_S)
        except Late:
            return self._last.replaced(self._blocked())
        except (RuntimeError, CancelledError):  # the loop is closed, or ends now
            ended = HealthCheck("app", False, "the app has ended", None, "ready")
            return self._last.replaced(ended)
        return self._last

    def _ask(self, loop: asyncio.AbstractEventLoop) -> Future[Health]:
        """Ask, unless the last question is still open: that one says how long it takes."""
        if self._open is None or self._open.done():
            asking = self._app.health()
            try:
                asked = asyncio.run_coroutine_threadsafe(asking, loop)
            except RuntimeError:
                asking.close()
                raise
            self._open, self._asked_at = asked, self._clock.monotonic()
        return self._open

    def _blocked(self) -> HealthCheck:
        config, silent_s = self._app.config, self._clock.monotonic() - self._asked_at
        why = f"the event loop has not answered for {silent_s:.1f} s"
        since = self._clock.now() - silent_s
        if config.stuck_after is not None and silent_s > config.stuck_after:
            return HealthCheck("event_loop", False, why, since, "live")
        late = silent_s >= config.unready_after
        return HealthCheck("event_loop", False, why, since, "ready" if late else None)


def address_given(option: str, text: str | None) -> tuple[str, int] | None:
    """The host and port that an option names. Raises ConfigError."""
    try:
        return None if text is None else address_of(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def listen(address: tuple[str, int], probes: ProcessProbes) -> Listener:
    """Answer probes there from now on, and say so. Raises ConfigError."""
    try:
        listener = Listener(address, PROBES, probes.answer)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        where = f"{address[0]}:{address[1]}"
        raise ConfigError(f"can't listen on {where}: {why}; choose another --health-port") from None
    listener.start()
    say(f"kiqpy: health is at {listener.url}/live and /ready")
    return listener

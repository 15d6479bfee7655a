"""The heartbeat: a thread with a socket of its own, so that a blocked event loop keeps its jobs.

Only a loop that has not turned at all for `stuck_after` seconds gives them up: the thread then
writes every thread's stack to stderr and renews the lease no more.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, final

from kiqpy.clock import Clock
from kiqpy.errors import StoreError
from kiqpy.store import Heartbeat, HeartbeatReply, Maintenance

_RETRY_S: Final = 1.0  # after a failed beat; the lease outlives several of them
_TURN_S: Final = 0.1  # how long a beat waits for the loop to say what is new
_LAG_S: Final = 0.25  # a loop that takes longer to answer is blocked by something


class HeartbeatSender(Protocol):
    """Keeps a lease alive from `start` to `stop`; virtual time needs another one than real time."""

    def __init__(
        self,
        store: Maintenance,
        clock: Clock,
        interval_s: float,
        stuck_after_s: float | None,
        pulse: Callable[[], Heartbeat],
        on_orders: Callable[[HeartbeatReply], None],
        on_lapse: Callable[[], None],
        on_lag: Callable[[float], None] = lambda _lag_s: None,
    ) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> bool: ...


@final
class HeartbeatThread:
    """Beats every `interval_s` until it is stopped; hands what it hears to the event loop."""

    def __init__(
        self,
        store: Maintenance,
        clock: Clock,
        interval_s: float,
        stuck_after_s: float | None,
        pulse: Callable[[], Heartbeat],
        on_orders: Callable[[HeartbeatReply], None],
        on_lapse: Callable[[], None],
        on_lag: Callable[[float], None] = lambda _lag_s: None,
    ) -> None:
        self._store, self._clock, self._interval_s = store, clock, interval_s
        self._stuck_after_s = stuck_after_s
        self._pulse, self._on_orders, self._on_lapse = pulse, on_orders, on_lapse
        self._halt = threading.Event()
        self._told = threading.Event()
        self._thread: threading.Thread | None = None
        self.stuck = False
        self._on_lag = on_lag

    async def start(self) -> None:
        """Beat once, which takes the lease; raises what the store answers. Then go on."""
        self._loop = asyncio.get_running_loop()
        self._refresh()
        await asyncio.to_thread(self._store.beat, self._latest)
        self._lapsed = False
        self._thread = threading.Thread(target=self._beat_on, name="kiqpy-beat", daemon=True)
        self._thread.start()

    def _refresh(self) -> None:
        """Runs in the loop, and so proves that it turns."""
        self._turned = self._clock.monotonic()
        self._latest = self._pulse()
        self._told.set()

    def _answer(self, asked: float) -> None:
        self._refresh()
        if (lag_s := self._turned - asked) > _LAG_S:
            self._on_lag(lag_s)

    def _beat_on(self) -> None:
        pause_s = self._interval_s
        while not self._halt.wait(pause_s):
            self._ask_loop()
            if self._is_stuck():
                continue
            try:
                orders = self._store.beat(self._latest)
            except StoreError:
                pause_s = min(_RETRY_S, self._interval_s)
                if not self._lapsed and not self._store.trusted():
                    self._lapsed = True
                    self._post(self._on_lapse)
            else:
                pause_s, self._lapsed = self._interval_s, False
                self._post(self._on_orders, orders)

    def _ask_loop(self) -> None:
        if self._told.is_set():  # else it has not answered the last time yet
            self._told.clear()
            self._post(self._answer, self._clock.monotonic())
        self._told.wait(_TURN_S)

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            self._halt.set()

    def _is_stuck(self) -> bool:
        """Whether the loop has not turned for too long; if it ever turns again, beating goes on."""
        still_s = self._clock.monotonic() - self._turned
        stuck = self._stuck_after_s is not None and still_s > self._stuck_after_s
        if stuck and not self.stuck:
            self._give_up()
        self.stuck = stuck
        return stuck

    def _give_up(self) -> None:
        print(  # noqa: T201  # the loop can't log, it is stuck
            "kiqpy: the event loop has not turned for "
            f"{self._stuck_after_s:g} s; this process gives up its jobs. All stacks:",
            file=sys.stderr,
        )
        faulthandler.dump_traceback(sys.stderr, all_threads=True)

    async def stop(self) -> bool:
        """End the thread; the lease is left as it is. False: it was not beating. Idempotent."""
        self._halt.set()
        if self._thread is None:
            return False
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        return True


def rss_kb() -> int:
    """What this process occupies in memory, where the system says it; else 0."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, AttributeError):
        return 0

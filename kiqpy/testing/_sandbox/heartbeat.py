"""A heartbeat for virtual time: beats by the clock's own timers, so that no advance outruns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from kiqpy.clock import Clock, Timer
from kiqpy.errors import StoreError
from kiqpy.store import Heartbeat, HeartbeatReply, Maintenance


@final
class TimerHeartbeat:
    """A `HeartbeatSender` for stores that answer at once: it beats in the event loop."""

    def __init__(
        self,
        store: Maintenance,
        clock: Clock,
        interval_s: float,
        stuck_after_s: float | None,
        pulse: Callable[[], Heartbeat],
        on_orders: Callable[[HeartbeatReply], None],
        on_lapse: Callable[[], None],
        on_lag: Callable[[float], None] = lambda _lag_s: None,  # virtual time has none
    ) -> None:
        self._store, self._clock, self._interval_s = store, clock, interval_s
        self._pulse, self._on_orders, self._on_lapse = pulse, on_orders, on_lapse
        self._timer: Timer | None = None
        self._lapsed = False

    async def start(self) -> None:
        """Beat once, which takes the lease; raises what the store answers. Then go on."""
        self._store.beat(self._pulse())
        self._timer = self._clock.call_later(self._interval_s, self._beat)

    def _beat(self) -> None:
        self._timer = self._clock.call_later(self._interval_s, self._beat)
        try:
            self._on_orders(self._store.beat(self._pulse()))
        except StoreError:
            if not self._lapsed and not self._store.trusted():
                self._lapsed = True
                self._on_lapse()
        else:
            self._lapsed = False

    async def stop(self) -> bool:
        """Beat no more; the lease is left as it is. False: it was not beating. Idempotent."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None

"""A heartbeat for virtual time: beats by the clock's own timers, so that no advance outruns it."""

from __future__ import annotations

from typing import final

from kiqpy._flow.service import StartStop
from kiqpy._runtime.heartbeat import HeartbeatOwner, HeartbeatSettings, leave
from kiqpy.clock import Clock, Timer
from kiqpy.errors import StoreError
from kiqpy.store import Maintenance


@final
class TimerHeartbeat:
    """A `HeartbeatSender` for stores that answer at once: it beats in the event loop."""

    def __init__(
        self,
        store: Maintenance,
        clock: Clock,
        settings: HeartbeatSettings,
        owner: HeartbeatOwner,
    ) -> None:
        self._store = store
        self._clock = clock
        self._interval_s = settings.interval_s
        self._owner = owner
        self._timer: Timer | None = None
        self._lapsed = False
        self._service = StartStop[None]("the heartbeat", None)

    async def start(self) -> None:
        """See `HeartbeatSender.start`."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        self._store.beat(self._owner.heartbeat())
        self._timer = self._clock.call_later(self._interval_s, self._beat)

    def _beat(self) -> None:
        self._timer = self._clock.call_later(self._interval_s, self._beat)
        try:
            self._owner.on_reply(self._store.beat(self._owner.heartbeat()))
        except StoreError:
            if not self._lapsed and not self._store.trusted():
                self._lapsed = True
                self._owner.on_lease_lost()
        else:
            self._lapsed = False

    async def stop(self) -> None:
        """See `HeartbeatSender.stop`."""
        await self._service.stop(self._end)

    def abandon(self) -> None:
        """See `HeartbeatSender.abandon`; its timer has ended with the loop."""

    async def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        await leave(self._store, self._clock)

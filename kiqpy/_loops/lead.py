"""Elects one process of a group. This only saves work: two that lead at once do no harm."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.clock import Clock
from kiqpy.errors import StoreError
from kiqpy.event import Event, LeaderElected, LeaderResigned
from kiqpy.store.calendar import Calendar

_MARGIN_S: Final = 2.0  # trust ends this long before the lease does


@final
class Leader(Loop):
    """Wants to lead a group, and renews it four times as often as it must.

    It is trusted from the moment the request was *sent*, by the monotonic clock, and no longer
    than that: a process that was stopped, or can't reach the store, knows that it leads no more.
    """

    name = "lead"

    def __init__(
        self,
        calendar: Calendar,
        ident: str,
        group: str,
        ttl_s: float,
        clock: Clock,
        emit: Callable[[Event], None],
        on_elected: Callable[[], None],
    ) -> None:
        self._calendar = calendar
        self._ident = ident
        self._group = group
        self._ttl_s = ttl_s
        self._clock = clock
        self._emit = emit
        self._on_elected = on_elected
        self._until = float("-inf")
        self._led = False  # when last asked

    async def tick(self) -> float:
        sent = self._clock.monotonic()
        try:
            won = await self._calendar.lead(self._ttl_s, self._group)
            trusted_s = self._ttl_s - min(_MARGIN_S, self._ttl_s / 2)
            self._until = sent + trusted_s if won else float("-inf")
        finally:
            self.leads()
        return self._ttl_s / 4

    def leads(self) -> bool:
        """Whether this process surely leads; emits one event for each change."""
        leads = self._clock.monotonic() < self._until
        if leads != self._led:
            self._led = leads
            self._emit((LeaderElected if leads else LeaderResigned)(self._ident))
            if leads:
                self._on_elected()
        return leads

    async def close(self) -> None:
        """Stop leading. If the store does not answer, the leadership expires."""
        self._until = float("-inf")
        self.leads()
        with suppress(StoreError):
            await self._calendar.resign(self._group)

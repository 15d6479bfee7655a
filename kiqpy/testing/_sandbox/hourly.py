"""Slows all polling to once an hour, so that virtual days cost few ticks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, final

from kiqpy._flow.loop import Loop
from kiqpy.config import Config

_HOUR_S: Final = 3600.0


def hourly(config: Config) -> Config:
    """The same options, with the server part on, polling and beating once an hour."""
    return replace(
        config,
        server=True,
        schedulers=("retry", "schedule"),
        poll_interval=_HOUR_S,
        heartbeat_interval=_HOUR_S,
        lease_ttl=10 * _HOUR_S,
        suspicion=10 * _HOUR_S,
        elect_ttl=10 * _HOUR_S,
    )


@final
class HourlyLoop(Loop):
    """A loop that looks for what other processes do. A store in memory has no others."""

    def __init__(self, loop: Loop) -> None:
        self.name = loop.name
        self._loop = loop

    async def tick(self) -> float:
        return max(_HOUR_S, await self._loop.tick())

    async def close(self) -> None:
        await self._loop.close()

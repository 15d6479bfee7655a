"""Nobody else uses a store in memory, so nothing needs looking at often: days pass in a moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, cast, final

from kiqpy._flow.loop import Loop
from kiqpy._runtime.loops import LoopSet
from kiqpy.config import Config

_HOUR_S: Final = 3600.0


def calm(config: Config) -> Config:
    """The same app, server and all, which looks and beats by the hour."""
    return replace(
        config, server=True, schedulers=("retry", "schedule"), poll_interval=_HOUR_S,
        heartbeat_interval=_HOUR_S, lease_ttl=10 * _HOUR_S, suspicion=10 * _HOUR_S,
        elect_ttl=10 * _HOUR_S,
    )  # fmt: skip


@final
class CalmLoop:
    """A loop that looks for what other processes do: once an hour is enough."""

    def __init__(self, loop: Loop) -> None:
        self.name = loop.name
        self._loop = loop

    async def tick(self) -> float:
        return max(_HOUR_S, await self._loop.tick())


@final
class HourlyLoops:
    """An `LoopSet` whose further loops are calm."""

    def __init__(self, upkeep: LoopSet) -> None:
        self._upkeep = upkeep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._upkeep, name)

    def start(self, more: Iterable[Loop] = ()) -> None:
        """See `LoopSet.start`."""
        self._upkeep.start([cast("Loop", CalmLoop(loop)) for loop in more])

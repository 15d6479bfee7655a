"""Periodic jobs of a running app: list them, enable and disable them, enqueue one now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, final

from kiqpy._flow.thread import LoopThread, from_any_loop
from kiqpy._registry import Registry
from kiqpy.config import Config
from kiqpy.errors import ConfigError, suggest
from kiqpy.job import Job
from kiqpy.receipt import Receipt
from kiqpy.store import Store
from kiqpy.store.calendar import PeriodicState

if TYPE_CHECKING:
    from kiqpy.periodic import Periodic


class Declaring(Protocol):
    """What is asked of an app; it must have been started, if only as a client."""

    @property
    def config(self) -> Config: ...

    @property
    def store(self) -> Store: ...

    async def enqueue(self, job: Job) -> Receipt: ...


class PeriodicRow(NamedTuple):
    """One periodic as it is now. Instants are epoch seconds of the store's clock.

    `last_at`: its last tick since it was first seen or enabled; None: none yet. `next_at` is None
    while it is disabled.
    """

    name: str
    cron: str
    worker: str
    queue: str
    tz: str
    next_at: float | None
    last_at: float | None
    enabled: bool


@final
@from_any_loop()
class Periodics:
    """`await jobs.cron()` lists them; `enable`, `disable` and `run_now` take a name.

    For all processes, and kept in Redis. An app that was started as a client will do. Raises
    StoreUnavailable; ConfigError with the nearest name for one that is not declared.
    """

    def __init__(
        self,
        app: Declaring,
        on_switch: Callable[[], None] = lambda: None,
        home: LoopThread | None = None,
    ) -> None:
        self._app = app
        self._home = home
        self._on_switch = on_switch  # so that this process does not have to look to notice

    async def __call__(self) -> list[PeriodicRow]:
        """All that are declared, in that order."""
        entries = self._app.config.periodics
        look = await self._app.store.calendar.state([entry.name for entry in entries])
        return [_row(entry, look) for entry in entries]

    async def enable(self, name: str) -> bool:
        """Have ticks again, from now on; False if it was enabled already.

        The process that leads notices at once if it is this one, else within
        `heartbeat_interval`; the first tick after that is not missed.
        """
        return await self._switch(name, True)

    async def disable(self, name: str) -> bool:
        """Enqueue no more ticks until it is enabled; False if it was disabled already.

        In force when this returns. What is enqueued already is run.
        """
        return await self._switch(name, False)

    async def run_now(self, name: str) -> Receipt:
        """Enqueue one more job, whether it is enabled or not; its ticks go on as they were."""
        return await self._app.enqueue(self._find(name).new())

    async def _switch(self, name: str, enabled: bool) -> bool:
        entry = self._find(name)
        changed = await self._app.store.calendar.switch(entry.name, enabled, entry.enabled)
        self._on_switch()
        return changed

    def _find(self, name: str) -> Periodic:
        entries = {entry.name: entry for entry in self._app.config.periodics}
        if name in entries:
            return entries[name]
        known = ", ".join(map(repr, entries)) or "none"
        hint = suggest(name, entries, 0.4) or f"declared: {known}"
        raise ConfigError(f"no periodic is called {name!r}; {hint}")


def check_known(entries: Sequence[Periodic], queues: Sequence[str], registry: Registry) -> None:
    """ConfigError for a periodic that this app enqueues for itself but could not run."""
    known = {spec.name for spec in registry.specs()}
    for entry in entries:
        class_ = entry.new().class_
        if entry.queue in queues and class_ not in known:
            raise ConfigError(
                f"periodics: {class_} is not among workers: add it, or nothing could run it"
            )


def _row(entry: Periodic, look: PeriodicState) -> PeriodicRow:
    mark = look.marks.get(entry.name)
    enabled = look.switched.get(entry.name, entry.enabled)
    return PeriodicRow(
        name=entry.name,
        cron=entry.text,
        worker=entry.new().class_,
        queue=entry.queue,
        tz=entry.tz,
        next_at=entry.next(max(look.now, mark.at if mark else 0.0)) if enabled else None,
        last_at=mark.at if mark and mark.ticked else None,
        enabled=enabled,
    )

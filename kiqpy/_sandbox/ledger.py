"""Every job that was enqueued, in order, and what a test may say about them."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, final

from kiqpy._registry import Registry
from kiqpy._sandbox.scope import Mode, Scope, here
from kiqpy._sandbox.wanted import Enqueued, Wanted
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.worker import AnyWorker

_KEPT: Final = 100_000  # a session's tests may share one app
_SHOWN: Final = 20

Sight = Literal["sandbox", "shared"]


@final
class Ledger:
    """What one app has enqueued in a test mode. `scope="sandbox"`: by the present test's tasks."""

    def __init__(self, registry: Registry) -> None:
        self.live: Mode | None = None  # how the app runs now; "redis": on a real server
        self._registry = registry
        self._entries: deque[Enqueued] = deque(maxlen=_KEPT)
        self._jids: set[str] = set()

    def note(self, job: Job, now: float) -> None:
        """One more, enqueued by the present scope; one that is known is not another."""
        if job.jid not in self._jids:
            self._jids.add(job.jid)
            self._entries.append(Enqueued(job, now, here()))

    def strike(self, jid: str) -> None:
        """It was not enqueued after all."""
        self._jids.discard(jid)
        self._entries = deque((e for e in self._entries if e.job.jid != jid), _KEPT)

    def clear(self) -> None:
        self._entries.clear()
        self._jids.clear()

    def jobs(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        scope: Sight = "sandbox",
        **subset: Any,
    ) -> list[Job]:
        """Those that fit, in order of enqueueing."""
        wanted = Wanted(worker, args, subset)
        return [entry.job for entry in self._fitting(wanted, _seen(scope))]

    def assert_enqueued(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        count: int | None = None,
        scope: Sight = "sandbox",
        **subset: Any,
    ) -> Job:
        """The (first) job that fits; AssertionError says what was enqueued instead."""
        if count is not None and count < 1:
            raise ConfigError(f"count={count}: at least 1; for none there is refute_enqueued")
        wanted, seen = Wanted(worker, args, subset), _seen(scope)
        found = self._fitting(wanted, seen)
        if len(found) == count or (count is None and found):
            return found[0].job
        raise AssertionError(self._missing(wanted, seen, found, count))

    def refute_enqueued(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        scope: Sight = "sandbox",
        **subset: Any,
    ) -> None:
        """AssertionError, with the jobs, if any fits."""
        wanted = Wanted(worker, args, subset)
        if found := self._fitting(wanted, _seen(scope)):
            raise AssertionError(
                f"Expected no job of {wanted}, got {len(found)}:\n{self._list(found)}"
            )

    def _visible(self, seen: Scope | None) -> list[Enqueued]:
        return [e for e in self._entries if seen is None or seen.holds(e.scope)]

    def _fitting(self, wanted: Wanted, seen: Scope | None) -> list[Enqueued]:
        return [
            entry
            for entry in self._visible(seen)
            if wanted.names(entry.job) and not wanted.faults(entry, self._registry)
        ]

    def _missing(
        self, wanted: Wanted, seen: Scope | None, found: list[Enqueued], count: int | None
    ) -> str:
        visible = self._visible(seen)
        number = "a job" if count is None else "1 job" if count == 1 else f"{count} jobs"
        lines = [f"Expected {number} of {wanted}, got {len(found) or 'none'}."]
        rest = [entry for entry in visible if entry not in found]
        if near := self._nearest(wanted, rest):
            lines.append(near)
        lines.append(
            f"Enqueued ({len(visible)}):\n{self._list(visible)}"
            if visible
            else "Nothing was enqueued."
        )
        others = len(self._fitting(wanted, None)) - len(found)
        if seen is not None and others:
            lines.append(
                f'Outside of this test\'s tasks: {others} such; scope="shared" sees them too.'
            )
        return "\n".join(lines)

    def _nearest(self, wanted: Wanted, entries: list[Enqueued]) -> str | None:
        """The job of this worker with the fewest differences, and those."""
        mine = [entry for entry in entries if wanted.names(entry.job)]
        differing = [(wanted.faults(entry, self._registry), entry) for entry in mine]
        if not differing:
            return None
        faults, entry = min(differing, key=lambda pair: len(pair[0]))
        return f"Nearest: {entry.told(self._registry)}\n  " + "\n  ".join(faults)

    def _list(self, entries: list[Enqueued]) -> str:
        lines = [f"  {entry.told(self._registry)}" for entry in entries[-_SHOWN:]]
        if len(entries) > _SHOWN:
            lines.insert(0, f"  ... {len(entries) - _SHOWN} before these")
        return "\n".join(lines)


def _seen(scope: str) -> Scope | None:
    if scope not in ("sandbox", "shared"):
        raise ConfigError(f'scope={scope!r}: give "sandbox" or "shared"')
    return here() if scope == "sandbox" else None

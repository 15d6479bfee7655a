"""Records every job that is enqueued in a test mode, in order, and asserts about them."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, final

from kiqpy._registry import Registry
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.testing._sandbox.expectation import Enqueued, Expectation
from kiqpy.testing._sandbox.scope import Mode, Scope, here
from kiqpy.worker import AnyWorker

_MAX_RECORDED: Final = 100_000  # a session's tests may share one app
_MAX_LISTED: Final = 20

Visibility = Literal["sandbox", "shared"]


@final
class EnqueueRecorder:
    """What one app has enqueued in a test mode. `scope="sandbox"`: by the present test's tasks."""

    def __init__(self, registry: Registry) -> None:
        self.live: Mode | None = None  # how the app runs now; "redis": on a real server
        self._registry = registry
        self._entries: deque[Enqueued] = deque(maxlen=_MAX_RECORDED)
        self._jids: set[str] = set()

    def add(self, job: Job, now: float) -> None:
        """Record a job as enqueued by the present scope; a known jid is not added again."""
        if job.jid not in self._jids:
            self._jids.add(job.jid)
            self._entries.append(Enqueued(job, now, here()))

    def discard(self, jid: str) -> None:
        """Forget a job that was not enqueued after all."""
        self._jids.discard(jid)
        self._entries = deque((e for e in self._entries if e.job.jid != jid), _MAX_RECORDED)

    def clear(self) -> None:
        self._entries.clear()
        self._jids.clear()

    def jobs(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        scope: Visibility = "sandbox",
        **subset: Any,
    ) -> list[Job]:
        """Those that match, in order of enqueueing."""
        expected = Expectation(worker, args, subset)
        return [entry.job for entry in self._matching(expected, _scope_of(scope))]

    def assert_enqueued(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        count: int | None = None,
        scope: Visibility = "sandbox",
        **subset: Any,
    ) -> Job:
        """The (first) job that matches; AssertionError says what was enqueued instead."""
        if count is not None and count < 1:
            raise ConfigError(f"count={count}: at least 1; for none there is refute_enqueued")
        expected, within = Expectation(worker, args, subset), _scope_of(scope)
        found = self._matching(expected, within)
        if len(found) == count or (count is None and found):
            return found[0].job
        raise AssertionError(self._missing(expected, within, found, count))

    def refute_enqueued(
        self,
        worker: AnyWorker | str | None = None,
        args: object = None,
        scope: Visibility = "sandbox",
        **subset: Any,
    ) -> None:
        """AssertionError, with the jobs, if any matches."""
        expected = Expectation(worker, args, subset)
        if found := self._matching(expected, _scope_of(scope)):
            raise AssertionError(
                f"Expected no job of {expected}, got {len(found)}:\n{self._listing(found)}"
            )

    def _visible(self, within: Scope | None) -> list[Enqueued]:
        return [e for e in self._entries if within is None or within.holds(e.scope)]

    def _matching(self, expected: Expectation, within: Scope | None) -> list[Enqueued]:
        return [
            entry
            for entry in self._visible(within)
            if expected.names(entry.job) and not expected.mismatches(entry, self._registry)
        ]

    def _missing(
        self, expected: Expectation, within: Scope | None, found: list[Enqueued], count: int | None
    ) -> str:
        visible = self._visible(within)
        number = "a job" if count is None else "1 job" if count == 1 else f"{count} jobs"
        lines = [f"Expected {number} of {expected}, got {len(found) or 'none'}."]
        rest = [entry for entry in visible if entry not in found]
        if near := self._nearest(expected, rest):
            lines.append(near)
        lines.append(
            f"Enqueued ({len(visible)}):\n{self._listing(visible)}"
            if visible
            else "Nothing was enqueued."
        )
        others = len(self._matching(expected, None)) - len(found)
        if within is not None and others:
            lines.append(
                f'Outside of this test\'s tasks: {others} such; scope="shared" sees them too.'
            )
        return "\n".join(lines)

    def _nearest(self, expected: Expectation, entries: list[Enqueued]) -> str | None:
        """The job of this worker with the fewest differences, and those."""
        mine = [entry for entry in entries if expected.names(entry.job)]
        differing = [(expected.mismatches(entry, self._registry), entry) for entry in mine]
        if not differing:
            return None
        mismatches, entry = min(differing, key=lambda pair: len(pair[0]))
        return f"Nearest: {entry.describe(self._registry)}\n  " + "\n  ".join(mismatches)

    def _listing(self, entries: list[Enqueued]) -> str:
        lines = [f"  {entry.describe(self._registry)}" for entry in entries[-_MAX_LISTED:]]
        if len(entries) > _MAX_LISTED:
            lines.insert(0, f"  ... {len(entries) - _MAX_LISTED} before these")
        return "\n".join(lines)


def _scope_of(scope: str) -> Scope | None:
    if scope not in ("sandbox", "shared"):
        raise ConfigError(f'scope={scope!r}: give "sandbox" or "shared"')
    return here() if scope == "sandbox" else None

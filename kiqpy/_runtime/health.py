"""Asks the parts of an app how they are. Nothing here is called per job, nor by any loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, final

from kiqpy._flow.tasks import ended
from kiqpy._runtime.engine import Engine
from kiqpy._runtime.lifecycle import Lifecycle
from kiqpy._runtime.state import State
from kiqpy._stages.gates import Slots
from kiqpy.clock import SystemClock
from kiqpy.observe.health import Health, HealthCheck

_ANSWER_S: Final = 0.5  # the store gets so long; a probe of Kubernetes waits for 1 s
_FRESH_S: Final = 1.0  # an answer counts so long: who probes often must not load the store
_LAG_SHOWN_S: Final = 60.0
_MAX_ROUND_S: Final = 60.0  # a round of a loop that takes longer hangs


class _Finding(NamedTuple):
    """What is wrong with a part. `for_s`: how long it has been, if the part knows that."""

    why: str
    impairs: Literal["live", "ready"] | None = None
    for_s: float | None = None


@final
class HealthWatch:
    """Reports how an app is, started or not, and remembers since when something is wrong."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._since: dict[str, float] = {}

    async def report(self) -> Health:
        """See `App.health`."""
        engine = self._lifecycle.live
        now = engine.clock.now() if engine is not None else SystemClock().now()
        found: dict[str, _Finding | None] = {"app": self._app()}
        if engine is not None:
            found["store"] = await _store(engine)
            found |= dict(_parts(engine))
        return Health(tuple(self._check(name, finding, now) for name, finding in found.items()))

    def _check(self, name: str, finding: _Finding | None, now: float) -> HealthCheck:
        if finding is None:
            self._since.pop(name, None)
            return HealthCheck(name)
        since = self._since.setdefault(name, now)
        if finding.for_s is not None:
            since = now - finding.for_s
        return HealthCheck(name, False, finding.why, since, finding.impairs)

    def _app(self) -> _Finding | None:
        failure = self._lifecycle.failure
        if failure is not None:
            why = f"a part of kiqpy has broken for good, restart the process: {failure!r}"
            return _Finding(why, "live")
        if self._lifecycle.state is State.RUNNING:
            return None
        return _Finding(f"the app is {self._lifecycle.state.value}", "ready")


async def _store(engine: Engine) -> _Finding | None:
    now = engine.clock.monotonic()
    if now - engine.vitals.answered_at < _FRESH_S:
        return None
    error = await _asked(engine)
    if error is None:
        engine.vitals.store_answered()
        return None
    away_s = max(0.0, engine.clock.monotonic() - engine.vitals.answered_at)
    late = away_s >= engine.config.unready_after
    return _Finding(f"no answer for {away_s:.0f} s: {error}", "ready" if late else None, away_s)


async def _asked(engine: Engine) -> str | None:
    """What the store's silence is, None if it answers."""
    asking = asyncio.ensure_future(engine.store.open())
    try:
        if not await ended({asking}, _ANSWER_S, engine.clock):
            return f"it takes longer than {_ANSWER_S:g} s"
        error = asking.exception()
        return None if error is None else str(error) or repr(error)
    finally:
        asking.cancel()


def _parts(engine: Engine) -> Iterator[tuple[str, _Finding | None]]:
    yield "buffer", _buffer(engine)
    yield "loops", _loops(engine)
    if not engine.config.server:
        return
    yield "lease", _lease(engine)
    yield "queues", _queues(engine)
    yield "event_loop", _event_loop(engine)
    yield "threads", _pool("threads", engine.executor.threads)
    yield "processes", _pool("child processes", engine.executor.processes)


def _buffer(engine: Engine) -> _Finding | None:
    held, config = engine.client.snapshot(), engine.config
    waiting = f"{held.buffered:,} jobs wait for the store"
    if held.buffered >= config.buffer_limit or held.held_bytes >= config.buffer_bytes:
        return _Finding(f"full: {waiting}, and enqueueing raises BufferFull", "ready")
    if held.oldest_s >= config.unready_after:
        return _Finding(f"{waiting}, the oldest for {held.oldest_s:.0f} s", None, held.oldest_s)
    return None


def _lease(engine: Engine) -> _Finding | None:
    if engine.store.trusted():
        return None
    return _Finding("no heartbeat was taken in time: other processes may run the jobs", "ready")


def _loops(engine: Engine) -> _Finding | None:
    hung = engine.loops.hung(_MAX_ROUND_S)
    failing = engine.loops.failing()
    if not hung and not failing:
        return None
    words = [*(f"{name} {why}" for name, why in hung.items())]
    words += [f"{name} fails: {why}" for name, why in failing.items() if name not in hung]
    return _Finding("; ".join(words), "ready" if hung else None)


def _queues(engine: Engine) -> _Finding | None:
    if engine.pipelines.is_quiet:
        return _Finding("quiet: this process was told to claim no more jobs")
    paused = engine.pipelines.paused()
    return _Finding(f"paused: {', '.join(paused)}") if paused else None


def _event_loop(engine: Engine) -> _Finding | None:
    """What the last heartbeats have found; while it is blocked, nothing here runs."""
    if engine.vitals.lag is None:
        return None
    lag, ended_at = engine.vitals.lag
    ago_s = engine.clock.monotonic() - ended_at
    if ago_s > _LAG_SHOWN_S:
        return None
    who = f" by {lag.by} at {lag.at}" if lag.by else ""
    why = f"was blocked for {lag.lag_s:.1f} s{who}, until {ago_s:.0f} s ago"
    return _Finding(why, None, ago_s + lag.lag_s)


def _pool(what: str, slots: Slots) -> _Finding | None:
    if not slots.waiting:
        return None
    return _Finding(f"all {what} are busy ({slots.limit}), and jobs wait for one ({slots.waiting})")

"""What a process says of itself at each heartbeat, as Sidekiq's Busy page wants it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final, final

from kiqpy._payload.json import encode
from kiqpy._runtime.pipelines import Pipelines
from kiqpy._runtime.version import version
from kiqpy._stages.consumer import Run
from kiqpy.clock import Clock
from kiqpy.event import LoopLag
from kiqpy.store import Heartbeat

_MAX_RUNS: Final = 250  # shown on Sidekiq's Busy page
_MAX_PAYLOAD_BYTES: Final = 2048  # of each of them


@final
class Vitals:
    """What a process notices of itself, for a report of its health. Seconds are monotonic.

    `answered_at`: when the store did so the last time, as far as is known here. `lag`: the last
    block of the event loop, and when it ended.
    """

    def __init__(self, clock: Clock) -> None:
        self.answered_at = clock.monotonic()
        self.lag: tuple[LoopLag, float] | None = None
        self._clock = clock

    def store_answered(self) -> None:
        """It has answered now."""
        self.answered_at = self._clock.monotonic()

    def loop_was_blocked(self, lag: LoopLag) -> None:
        """Until now."""
        self.lag = lag, self._clock.monotonic()


@final
class ProcessInfo:
    """Makes a heartbeat of what the pipelines do now. `lease_s`: how long it is to count."""

    def __init__(self, ident: str, pipelines: Pipelines, lease_s: float, clock: Clock) -> None:
        self._ident = ident
        self._pipelines = pipelines
        self._lease_s = lease_s
        self._clock = clock
        self._started_at = clock.now()
        self._tag = _folder()
        self._version = f"kiqpy {version()}"

    def heartbeat(self) -> Heartbeat:
        """What this process is, and what it does now."""
        pipelines = self._pipelines
        queues, concurrency = pipelines.queues(), pipelines.concurrency()
        runs = [run for run in pipelines.runs() if not run.aside]
        return Heartbeat(
            info=encode(self._info(queues, concurrency)).decode(),
            concurrency=concurrency,
            quiet=pipelines.is_quiet,
            busy=len(runs),
            work=self._work(runs),
            rss_kb=rss_kb(),
            queues=tuple(queues),
            lease_s=self._lease_s,
        )

    def _info(self, queues: list[str], concurrency: int) -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "started_at": self._started_at,
            "pid": os.getpid(),
            "tag": self._tag,
            "concurrency": concurrency,
            "queues": queues,
            "labels": [],
            "identity": self._ident,
            "embedded": False,  # true: Sidekiq 7 and 8 refuse to quiet or stop it
            "weights": [dict.fromkeys(queues, 0)],
            "capsules": self._pipelines.capsules(),
            "version": self._version,
        }

    def _work(self, runs: list[Run]) -> dict[str, str]:
        began = self._clock.now() - self._clock.monotonic()
        return {
            f"{run.claim.queue}-{run.claim.delivery}": _shown(run, int(began + run.started))
            for run in runs[:_MAX_RUNS]
        }


def _shown(run: Run, run_at: int) -> str:
    raw = run.claim.raw if len(run.claim.raw) <= _MAX_PAYLOAD_BYTES else _head(run)
    payload = raw.decode(errors="replace")
    shown = {"queue": run.claim.queue, "payload": payload, "run_at": run_at}
    return encode(shown).decode()


def _head(run: Run) -> bytes:
    """The beginning of a large payload: heartbeats go out often. Sidekiq's pages need JSON."""
    text = run.claim.raw[:_MAX_PAYLOAD_BYTES].decode(errors="replace")
    payload: dict[str, Any] = {} if run.job is None else run.job.payload
    shown: dict[str, Any] = {"class": "?", "queue": run.claim.queue}
    shown |= {name: payload[name] for name in ("class", "jid") if name in payload}
    return encode({**shown, "args": [f"{text}..."]})


def _folder() -> str:
    """The name of the folder we run in, as Sidekiq's tag; it may have been removed."""
    try:
        return Path.cwd().name
    except OSError:
        return ""


def rss_kb() -> int:
    """What this process occupies in memory, where the system says it; else 0."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, AttributeError):
        return 0

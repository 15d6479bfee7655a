"""What a process says of itself at each heartbeat, as Sidekiq's Busy page wants it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final, final

from kiqpy._payload.json import encode
from kiqpy._runtime.heartbeat import rss_kb
from kiqpy._runtime.pipelines import Pipelines
from kiqpy._stages.consumer import Run
from kiqpy.clock import Clock
from kiqpy.store import Heartbeat

_WORK_SHOWN: Final = 250  # running jobs shown to Sidekiq's Busy page


@final
class ProcessInfo:
    """Makes a pulse of what the lines do now."""

    def __init__(self, ident: str, lines: Pipelines, lease_s: float, clock: Clock) -> None:
        self._ident, self._lines, self._lease_s, self._clock = ident, lines, lease_s, clock
        self._started_at = clock.now()
        self._tag = _folder()

    def __call__(self) -> Heartbeat:
        queues, concurrency = self._lines.queues(), self._lines.concurrency()
        runs = self._lines.runs()
        info: dict[str, Any] = {
            "hostname": socket.gethostname(), "started_at": self._started_at, "pid": os.getpid(),
            "tag": self._tag, "concurrency": concurrency, "queues": queues, "labels": [],
            "identity": self._ident, "embedded": True, "weights": [dict.fromkeys(queues, 0)],
            "version": "kiqpy",
        }  # fmt: skip
        return Heartbeat(
            encode(info).decode(), concurrency, self._lines.resting, len(runs), self._work(runs),
            rss_kb(), tuple(queues), self._lease_s,
        )  # fmt: skip

    def _work(self, runs: list[Run]) -> dict[str, str]:
        began = self._clock.now() - self._clock.monotonic()
        return {
            f"{run.claim.queue}-{run.claim.delivery}": encode({
                "queue": run.claim.queue,
                "payload": run.claim.raw.decode(errors="replace"),
                "run_at": int(began + run.started),
            }).decode()
            for run in runs[:_WORK_SHOWN]
        }  # fmt: skip


def _folder() -> str:
    """The name of the folder we run in, as Sidekiq's tag; it may have been removed."""
    try:
        return Path.cwd().name
    except OSError:
        return ""

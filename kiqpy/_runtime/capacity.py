"""How many jobs of a queue can run at a time, as far as its workers tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import inf
from typing import final

from kiqpy._declare.sources import QueueSpec
from kiqpy._spec import Spec


@final
class Capacity:
    """Bounds the jobs claimed of queues whose workers all need a thread or a child process.

    Jobs beyond it would only wait here, and another process could run them. A queue for which no
    worker is declared, or one that needs neither, is not bounded.
    """

    def __init__(self, workers: Iterable[Spec], threads: int, processes: int) -> None:
        self._slots: Mapping[str, float] = {"async": inf, "thread": threads, "process": processes}
        self._executors: defaultdict[str, set[str]] = defaultdict(set)
        for worker in workers:
            for queue in {worker.given.queue, worker.given.retry_queue or worker.given.queue}:
                self._executors[queue].add(worker.executor)

    def bound(self, limit: int, spec: QueueSpec) -> int:
        """The limit, or less."""
        queues = spec.named()
        if spec.patterns() or not all(queue in self._executors for queue in queues):
            return limit
        needed = {executor for queue in queues for executor in self._executors[queue]}
        return int(min(limit, sum(self._slots[executor] for executor in needed)))

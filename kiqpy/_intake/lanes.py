"""Checks that a job names a lane where there are lanes, and only there; adds what its lane says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, cast, final

from kiqpy._declare.checks import lane_name
from kiqpy._declare.sources import QueueSpec
from kiqpy._registry import Registry
from kiqpy._spec import Spec
from kiqpy.errors import ArgumentError
from kiqpy.queues import BlockingQueues


@final
class LaneAdmission:
    """What an app's blocking queues, and its plain ones, mean for the jobs that it enqueues.

    A queue that the app does not declare may be a blocking one of another app: any lane will do.
    """

    def __init__(
        self,
        groups: Iterable[QueueSpec] = (),
        declared: Iterable[str] = (),
        registry: Registry | None = None,
    ) -> None:
        blocking = [each for each in groups if isinstance(each, BlockingQueues)]
        self._blocking = {each.name: each for each in blocking}
        self.queues: Set[str] = self._blocking.keys()  # whose jobs must name a lane
        self._plain = frozenset(declared) - self.queues
        self._registry = registry

    def enter(self, payload: dict[str, Any], due_at: float | None) -> str:
        """The job's lane; what the lane says is added to the payload, where the job says nothing.

        Raises: ArgumentError: there is no lane, or the queue has none. ConfigError: no lane can be
        named so.
        """
        queue: Any = payload.get("queue", "default")
        if payload.get("lane") is None:
            raise ArgumentError(f'queue {queue!r} has lanes: say in which, lane="tenant-42"')
        lane = lane_name("lane", payload["lane"])
        if queue in self._plain:
            raise ArgumentError(
                f"lane={lane!r}: queue {queue!r} has no lanes; declare BlockingQueues({queue!r}) "
                "among the queues, or leave the lane out"
            )
        if (worker := self._worker(str(payload["class"]))) is not None and worker.given.local:
            raise ArgumentError(
                f"lane={lane!r}: {worker.name} is local, its jobs run at once; leave local or the "
                "lane out"
            )
        if payload.get("retry_queue") not in (None, queue):
            raise ArgumentError(
                f"retry_queue={payload['retry_queue']!r}: a job is retried in its lane of "
                f"{queue!r}; leave retry_queue out"
            )
        if due_at is not None:
            payload["lane_at"] = due_at
        if (declared := self._blocking.get(queue)) is not None:
            self._complete(payload, declared)
        return lane

    def _complete(self, payload: dict[str, Any], declared: BlockingQueues) -> None:
        payload.setdefault("retry", declared.max_attempts - 1)
        own = {
            "timeout": declared.timeout,
            "backoff": "queuetopia",
            "max_backoff": declared.max_backoff,
            "halt": declared.halts or None,
        }
        by_worker = self._of_worker(str(payload["class"]))
        said = payload.get("kiq")
        payload["kiq"] = {
            **{k: v for k, v in own.items() if v is not None and k not in by_worker},
            **(cast("dict[str, Any]", said) if isinstance(said, dict) else {}),
        }

    def _worker(self, name: str) -> Spec | None:
        return None if self._registry is None else self._registry.get(name)

    def _of_worker(self, name: str) -> Mapping[str, Any]:
        """Those of its options that count more than the lane's."""
        spec = self._worker(name)
        if spec is None:
            return {}
        named = {"timeout": spec.given.timeout, "backoff": spec.given.backoff}
        return {k: v for k, v in named.items() if v is not None}

"""`max_concurrency`: so many jobs of one worker run at a time in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from kiqpy._extensions.extension import Extension, Host
from kiqpy._spec import Spec
from kiqpy._stages.gates import Gate, Slots


@final
class WorkerSlots(Extension):
    """Gives each worker with the option a gate; all names of a worker share its slots."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._gates: dict[Spec, Slots] = {}

    def gates(self, spec: Spec) -> Sequence[Gate]:
        if spec.given.max_concurrency is None:
            return ()
        if spec not in self._gates:
            self._gates[spec] = Slots(spec.given.max_concurrency)
        return (self._gates[spec],)

"""Frees or extends the locks of unique jobs when a job ends, or frees them when it starts."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import final

from kiqpy._extensions.extension import Extension
from kiqpy._flow.pause import ExponentialBackoff
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf
from kiqpy._rules.unique import lock_until_start
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate
from kiqpy.clock import Clock
from kiqpy.errors import StoreUnavailable
from kiqpy.job import Job
from kiqpy.store import Source


@final
class UniqueJobs(Extension):
    """Adds effects to each end of a job, and the last gate: a freed lock can't be taken again."""

    def effects_of(self) -> Sequence[EffectsOf]:
        return DEFAULT_EFFECTS

    def gates(self, spec: Spec) -> Sequence[Gate]:
        return (unlock_gate(self.host.store, self.host.clock),)


def unlock_gate(store: Source, clock: Clock) -> Gate:
    """Lets every job pass; if its lock ends when it starts, after the store has freed it."""

    def gate(run: Run) -> Awaitable[None] | None:
        job = run.job
        if job is None or "unique_until" not in job.payload:
            return None
        return unlock(job)

    async def unlock(job: Job) -> None:
        lock = lock_until_start(job.payload, clock.now())
        backoff = ExponentialBackoff(clock)
        while lock is not None:
            try:
                return await store.unlock(job.jid, lock)
            except StoreUnavailable:  # a job must not start with its lock; to ask twice is safe
                await backoff.pause()

    return gate

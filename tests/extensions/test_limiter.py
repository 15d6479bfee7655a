"""A rate limit as an extension: a gate that puts jobs off without using a retry."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest

from kiqpy import App, worker
from kiqpy._extensions.extension import Extension, Host
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate
from kiqpy.event import Event, JobFailure, JobSnoozed
from kiqpy.outcome import Snoozed

pytestmark = pytest.mark.anyio

LIMIT, PER_S = 2, 60.0
called: list[int] = []
free: list[int] = []


@worker
async def call_api(n: int) -> None:
    called.append(n)


@worker
async def unlimited(n: int) -> None:
    free.append(n)


class RateLimit(Extension):
    """So many jobs of `call_api` a minute, in this process."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._starts: deque[float] = deque()

    def gates(self, spec: Spec) -> Sequence[Gate]:
        return (self._gate,) if spec.name == "call_api" else ()

    def _gate(self, _run: Run) -> Snoozed | None:
        now = self.host.clock.monotonic()
        while self._starts and now - self._starts[0] >= PER_S:
            self._starts.popleft()
        if len(self._starts) >= LIMIT:
            return Snoozed(self._starts[0] + PER_S - now)
        self._starts.append(now)
        return None


class Limited(App):
    workers = (call_api, unlimited)
    _extensions = (RateLimit,)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    called.clear()
    free.clear()


async def test_jobs_over_the_limit_are_put_off_and_run_when_there_is_room() -> None:
    jobs = Limited()
    async with jobs.testing() as t:
        for n in range(5):
            await call_api.enqueue(n)
            await unlimited.enqueue(n)
        await t.drain()
        assert called == [0, 1]
        assert free == [0, 1, 2, 3, 4], "another worker is not limited"
        await t.tick(PER_S + 1)
        await t.drain()
        assert sorted(called) == [0, 1, 2, 3]
        await t.tick(PER_S + 1)
        await t.drain()
        assert sorted(called) == [0, 1, 2, 3, 4]


async def test_a_job_that_was_put_off_has_used_no_retry() -> None:
    jobs = Limited()
    events: list[Event] = []
    jobs.attach("job.*", events.append)
    async with jobs.testing() as t:
        for n in range(3):
            await call_api.enqueue(n)
        await t.drain()
        [put_off] = [event for event in events if isinstance(event, JobSnoozed)]
        assert 0 < put_off.in_s <= PER_S
        await t.tick(PER_S + 1)
        await t.drain()
    assert called == [0, 1, 2]
    assert not [event for event in events if isinstance(event, JobFailure)]
    assert put_off.job.retry_count == -1

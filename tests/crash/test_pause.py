"""After a pause, two processes at full speed start no job of the queue."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Iterator

import pytest

from kiqpy import App
from tests.crash.journal import held
from tests.crash.test_kill import QUEUE, Yard
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def yard(clean: TestServer, tmp_path: pathlib.Path) -> Iterator[Yard]:
    it = Yard(clean, tmp_path)
    yield it
    it.clear()


async def test_after_a_second_no_job_of_a_paused_queue_starts_anywhere(yard: Yard) -> None:
    """And all of them run after the resumption, once."""

    def starts() -> int:
        return len(yard.oracle.lines("start"))

    both = [yard.hire(proof=True) for _ in range(2)]
    assert all(process.ident for process in both)
    total = len(yard.push(8000, 0.02))
    async with App(redis_url=yard.server.url).client_only() as jobs:
        await eventually(lambda: len({pid for _, pid, _ in yard.oracle.lines("start")}) == 2, "two")
        await eventually(lambda: starts() > 300, "full speed")
        await jobs.pause(QUEUE)
        at_once = starts()
        await asyncio.sleep(1.0)  # what is measured is time itself
        after_a_second = starts()
        await asyncio.sleep(2.0)
        print(f"{at_once} started at the pause, {after_a_second - at_once} more within a second")
        assert starts() == after_a_second < total, "a job was started after the pause"
        assert held(yard.server) == {}
        await jobs.resume(QUEUE)
        await eventually(lambda: starts() > after_a_second, "the resumption", within=5)
        await eventually(lambda: len(yard.oracle.lines("end")) == total, "all", within=60)
    assert set(yard.oracle.count("end").values()) == {1}
    assert len(yard.oracle.count("end")) == total
    for process in both:
        process.finish()

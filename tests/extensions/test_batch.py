"""A batch as an extension: counts what became of its jobs, each once, in the step that settles it.

A value, its Lua, its function in memory and a rule: nothing else knows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from kiqpy import App, Discard, Job, worker
from kiqpy._extensions.extension import Extension
from kiqpy._rules.effects import EffectsOf
from kiqpy.outcome import Effects, Fate, KeyNames
from kiqpy.store.memory.server import MemoryServer
from tests.conftest import AddEffect
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

LUA = """
effects.count_batch = function(keys, args)
  redis.call('HINCRBY', keys[1], args[1], 1)
end
"""
counted: Counter[str] = Counter()


class CountBatch(NamedTuple):
    """Count one job of a batch under what became of it."""

    batch: str
    what: str

    @property
    def op(self) -> str:
        return "count_batch"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (f"{names.prefix}kiq:batch:{self.batch}",)

    def args(self) -> tuple[str]:
        return (self.what,)


def count_in_memory(_server: MemoryServer, effect: CountBatch) -> None:
    counted[effect.what] += 1


def count(job: Job, fate: Fate, _now: float) -> Effects:
    if fate.by == "clock":  # a retry goes on
        return ()
    return (CountBatch(str(job.payload["bid"]), f"{fate.by}:{fate.to}"),)


class Batches(Extension):
    """Jobs with `bid` in their payload belong to a batch."""

    def effects_of(self) -> Sequence[EffectsOf]:
        return (EffectsOf("bid", count),)


@worker
async def good() -> None: ...


@worker(retry=False)
async def refused() -> Discard:
    return Discard("no")


@worker(retry=1, backoff=lambda _count, _error, _job: 0.05)
async def bad() -> None:
    raise ValueError("no")


class Batched(App):
    workers = (good, refused, bad)
    _extensions = (Batches,)


def of_batch(*jobs: Job) -> list[Job]:
    for job in jobs:
        job.payload["bid"] = "B"
    return list(jobs)


@pytest.fixture(autouse=True)
def nothing_counted(add_effect: AddEffect) -> None:
    counted.clear()
    add_effect("count_batch", LUA, count_in_memory)


async def test_every_end_is_counted_once_on_a_server(clean: TestServer) -> None:
    def counts() -> dict[str, int]:
        flat = clean.cli("HGETALL", "kiq:batch:B")
        return {name: int(n) for name, n in zip(flat[::2], flat[1::2], strict=True)}

    async with Batched(redis_url=clean.url, poll_interval=0.05) as jobs:
        await jobs.enqueue_many(of_batch(good.new(), good.new(), refused.new(), bad.new()))
        await jobs.enqueue(good.new())  # of no batch
        await eventually(lambda: counts().get("run:dead"), "the last failure")
        await eventually(lambda: counts().get("run:gone") == 3, "the others")
        assert counts() == {"run:gone": 3, "run:retry": 1, "run:dead": 1}
        [dead] = (await jobs.admin.jobs("dead")).rows
        await jobs.admin.delete(dead)
    assert counts()["operator:gone"] == 1


async def test_every_end_is_counted_once_in_memory() -> None:
    jobs = Batched()
    async with jobs.testing() as t:
        await jobs.enqueue_many(of_batch(good.new(), refused.new(), bad.new()))
        await t.drain()
    assert counted == {"run:gone": 2, "run:retry": 1}

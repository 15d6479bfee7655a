"""Results as an extension: kept in the step that settles the job, so none is lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from kiqpy import App, Job, worker
from kiqpy._extensions.extension import Extension
from kiqpy._rules.effects import EffectsOf
from kiqpy.middleware import ClientMiddleware, Next
from kiqpy.outcome import Effects, Fate, KeyNames, Success
from kiqpy.store.memory.server import MemoryServer
from tests.conftest import AddEffect
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

LUA = """
effects.keep_result = function(keys, args)
  redis.call('SET', keys[1], args[1], 'EX', args[2])
end
"""
kept: dict[str, str] = {}


class KeepResult(NamedTuple):
    """Keep what a job has returned, for some time."""

    jid: str
    result: str
    ttl_s: int

    @property
    def op(self) -> str:
        return "keep_result"

    def keys(self, names: KeyNames) -> tuple[str, ...]:
        return (f"{names.prefix}kiq:result:{self.jid}",)

    def args(self) -> tuple[str, int]:
        return self.result, self.ttl_s


def keep_in_memory(_server: MemoryServer, effect: KeepResult) -> None:
    kept[effect.jid] = effect.result


def keep(job: Job, fate: Fate, _now: float) -> Effects:
    if not isinstance(fate.outcome, Success):
        return ()
    return (KeepResult(job.jid, json.dumps(fate.outcome.result), int(job.payload["result_ttl"])),)


class Results(Extension):
    """Jobs of `add` say how long their result is to be kept; the effect is chosen by that field."""

    def client_middleware(self) -> Sequence[ClientMiddleware]:
        async def ask(job: Job, call_next: Next) -> object:
            if job.class_ == "add":
                job.payload["result_ttl"] = 60
            return await call_next(job)

        return (ask,)

    def effects_of(self) -> Sequence[EffectsOf]:
        return (EffectsOf("result_ttl", keep),)


@worker(retry=0)
async def add(a: int, b: int) -> int:
    if a < 0:
        raise ValueError("negative")
    return a + b


@worker
async def forgets() -> int:
    return 7


class Keeping(App):
    workers = (add, forgets)
    _extensions = (Results,)


@pytest.fixture(autouse=True)
def nothing_kept(add_effect: AddEffect) -> None:
    kept.clear()
    add_effect("keep_result", LUA, keep_in_memory)


async def test_a_result_is_kept_on_a_server_for_its_time(clean: TestServer) -> None:
    async with Keeping(redis_url=clean.url) as jobs:
        sum_ = await jobs.enqueue(add.new(2, 3))
        other = await jobs.enqueue(forgets.new())
        failed = await jobs.enqueue(add.new(-1, 3))
        await eventually(lambda: clean.cli("GET", f"kiq:result:{sum_.jid}") == "5", "the result")
        await eventually(lambda: clean.cli("ZCARD", "dead") in (1, "1"), "the failure")
    assert 0 < int(clean.cli("TTL", f"kiq:result:{sum_.jid}")) <= 60
    for receipt in (other, failed):
        assert not int(clean.cli("EXISTS", f"kiq:result:{receipt.jid}"))


async def test_a_result_is_kept_in_memory() -> None:
    async with Keeping().testing() as t:
        receipt = await add.enqueue(2, 3)
        await forgets.enqueue()
        await t.drain()
    assert kept == {receipt.jid: "5"}

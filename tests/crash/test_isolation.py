"""If a stage of one queue raises, the other queues are not affected.

The invariant: a queue that breaks starts anew with all its jobs, each of which is run in the end;
one that breaks a fourth time within 30 s stops the app, and says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from kiqpy import App, Job, current_job, worker
from kiqpy._stages.consumer import Consumer
from kiqpy._stages.producer import Producer
from kiqpy._stages.settler import Settler
from kiqpy.store.redis.backend import RedisBackend
from tests.crash.journal import everywhere, held, number
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

ran: Counter[str] = Counter()
QUEUES = ["broken", "sound", "other"]


@worker(name="plain", retry=False)
async def plain() -> None:
    await asyncio.sleep(0.005)
    ran[current_job().jid] += 1


class Shop(App):
    queues = dict.fromkeys(QUEUES, 5)
    workers = [plain]
    heartbeat_interval = 0.2
    lease_ttl = 20.0


class Breaks:
    """Makes one stage of the queue `broken` raise at some of its calls."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int) -> None:
        self._patch, self.left, self.calls = patch, times, 0

    def strike(self) -> None:
        self.calls += 1
        if self.left and self.calls % 3 == 2:
            self.left -= 1
            raise ZeroDivisionError("a defect")

    def producer(self) -> None:
        original = Producer._claim

        async def claim(stage: Producer, *args: Any) -> int:
            claims = await original(stage, *args)
            if stage._source.queues == ["broken"]:
                self.strike()
            return claims

        self._patch.setattr(Producer, "_claim", claim)

    def consumer(self) -> None:
        original = Consumer._start

        def start(stage: Consumer, claim: Any) -> None:
            if claim.queue == "broken":
                self.strike()
            original(stage, claim)

        self._patch.setattr(Consumer, "_start", start)

    def settler(self) -> None:
        original = Settler._settle

        async def settle(stage: Settler, queue: str, batch: Any) -> None:
            if queue == "broken":
                self.strike()
            await original(stage, queue, batch)

        self._patch.setattr(Settler, "_settle", settle)


async def fill(shop: App) -> None:
    for n in range(50):
        for queue in QUEUES:
            await shop.enqueue(Job("plain", queue=queue, jid=f"{queue}-{n}"))


@pytest.mark.parametrize("stage", ["producer", "consumer", "settler"])
async def test_a_broken_stage_restarts_alone(
    clean: TestServer, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Three breaks: the queue starts anew each time; every job of every queue is run."""
    ran.clear()
    breaks = Breaks(monkeypatch, 3)
    getattr(breaks, stage)()
    shop = Shop(redis_url=clean.url)
    restarts: list[Any] = []
    shop.attach("queue.restarted", restarts.append)
    async with shop:
        await fill(shop)
        await eventually(lambda: len(ran) == 150, "all to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert [(event.queue, event.restarts) for event in restarts] == [
        ("broken", n) for n in (1, 2, 3)
    ]
    assert "a defect" in restarts[0].error
    twice = {jid for jid, times in ran.items() if times > 1}
    assert all(jid.startswith("broken-") for jid in twice), "only what was in hand at a break"
    assert not everywhere(clean, QUEUES)


@pytest.mark.parametrize("stage", ["producer", "consumer", "settler"])
async def test_a_fourth_break_stops_the_app_loudly(
    clean: TestServer, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """`wait_stopped` raises; the others go on until it stops; what it had in hand is free again."""
    ran.clear()
    breaks = Breaks(monkeypatch, 1000)
    getattr(breaks, stage)()
    shop = Shop(redis_url=clean.url)
    await shop.start()
    await fill(shop)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await asyncio.wait_for(shop.wait_stopped(), 20)
    await eventually(lambda: sound() == 100, "the others to go on")
    await eventually(lambda: not held(clean), "nothing to be kept by a queue that is no more")
    await shop.stop()
    left = everywhere(clean, QUEUES)
    assert all(jid.startswith("broken-") for jid in left)
    assert left.keys() | ran.keys() == {f"{queue}-{n}" for queue in QUEUES for n in range(50)}
    assert max(left.values(), default=1) == 1
    assert number(clean.cli("LLEN", "queue:broken")) == len(left)
    monkeypatch.undo()
    async with Shop(redis_url=clean.url):
        await eventually(lambda: len(ran) == 150, "the rest to run elsewhere")
        await eventually(lambda: not held(clean), "everything to be settled")


def sound() -> int:
    return sum(1 for jid in ran if not jid.startswith("broken-"))


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancel_is_heard_whenever_it_comes(clean: TestServer, turns: int) -> None:
    """Up to Python 3.11 one that came while a command was being sent was swallowed.

    The wait then went on, its stage never ended, and so its queue never began anew.
    """
    backend = RedisBackend(clean.url, "host:1:aa", options={"socket_timeout": 2.0})
    for connected in (False, True):
        waiting = asyncio.ensure_future(backend.wait("sound", 3.0))
        if connected:
            await eventually(lambda: b_waits(clean), "it to block")
            waiting.cancel()
            await asyncio.wait({waiting})
            waiting = asyncio.ensure_future(backend.wait("sound", 3.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=2.0)
        assert done
        assert waiting.cancelled()
        asking = asyncio.ensure_future(backend.census.sizes(["sound"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.cancel():
            await asyncio.wait({asking})
            assert asking.cancelled()
    await backend.close()


def b_waits(server: TestServer) -> bool:
    return "cmd=blmove" in str(server.cli("CLIENT", "LIST"))

"""Names and payloads that have lost jobs in other libraries: all run.

The invariant: each job runs once, by the queue that it was put into, and the text of its `args`
is the same at the end of every way (queue, schedule, retry, rescue) as it was at the beginning.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import Any

import pytest

from kiqpy import App, Job, current_job, worker
from kiqpy.store.redis.backend import RedisBackend
from kiqpy.testing import FakeClock
from tests.crash.journal import everywhere, held, jids, queued, words
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

QUEUES = ["a-b", "a_b", "a:b", "a.b"]
ARGS = [
    '["\\"jid\\":\\"x\\"","\\"queue\\":\\"elsewhere\\""]',
    '[{"jid":"x","queue":"elsewhere","args":[1]}]',
    "[12345678901234567890, 98765432109876543210]",
    '[ 1 ,  {"a" : 1.0, "b": 10E-2 } ]',
    '["\\u00e9\\ud83d\\ude00", "é", "\\/"]',
    '["queue:a-b|x", "}", "]", "\\\\"]',
]
ran: Counter[str] = Counter()
fails: set[str] = set()


@worker(name="Other::Worker", backoff="immediate")
async def other(*_args: Any) -> None:
    jid = current_job().jid
    ran[jid] += 1
    if jid in fails:
        fails.remove(jid)
        raise RuntimeError("once")


class Shop(App):
    queues = dict.fromkeys(QUEUES, 5)
    workers = [other]
    heartbeat_interval = 0.2
    lease_ttl = 20.0
    poll_interval = 0.1


@pytest.fixture(autouse=True)
def forget() -> None:
    ran.clear()
    fails.clear()


def payload(jid: str, queue: str, args: str) -> str:
    """As another client writes it: spaces after colons, its own order, fields of its own."""
    now = time.time()
    return (
        f'{{"retry": 3, "queue": "{queue}", "class": "Other::Worker", "args": {args}, '
        f'"jid": "{jid}", "created_at": {now}, "enqueued_at": {now}, "cattr": {{"jid": 1}}}}'
    )


def jobs() -> dict[str, tuple[str, str]]:
    """jid -> queue and args, for every combination."""
    return {
        f"{n}-{m}-jid-{queue}": (queue, args)
        for n, queue in enumerate(QUEUES)
        for m, args in enumerate(ARGS)
    }


def args_text(raw: str) -> str:
    """The text of `args` as it stands in a payload, found without a JSON library's rewriting."""
    start = re.search(r'"args"\s*:\s*', raw)
    assert start is not None
    decoder = json.JSONDecoder()
    _, end = decoder.raw_decode(raw, start.end())
    return raw[start.end() : end]


def same_args(payloads: list[str]) -> None:
    expected = {jid: args for jid, (_, args) in jobs().items()}
    found = {json.loads(raw)["jid"]: args_text(raw) for raw in payloads}
    assert found == expected


async def all_run(server: TestServer, times: int = 1) -> None:
    expected = Counter(dict.fromkeys(jobs(), times))
    await eventually(lambda: ran.total() >= expected.total(), f"all to run: {expected - ran}")
    await eventually(lambda: not held(server), "everything to be settled")
    assert ran == expected
    assert not everywhere(server, QUEUES)


def push_raw(server: TestServer) -> None:
    for jid, (queue, args) in jobs().items():
        server.cli("SADD", "queues", queue)
        server.cli("LPUSH", f"queue:{queue}", payload(jid, queue, args))


async def test_through_the_queue(clean: TestServer) -> None:
    push_raw(clean)
    async with Shop(redis_url=clean.url):
        await all_run(clean)


async def test_through_our_own_enqueue(clean: TestServer) -> None:
    """Our client refuses integers that do not fit 64 bits; all else goes through it."""
    async with Shop(redis_url=clean.url).client_only() as shop:
        for jid, (queue, args) in jobs().items():
            values = [str(v) if isinstance(v, int) and v > 2**64 else v for v in json.loads(args)]
            await shop.enqueue(Job("Other::Worker", values, queue=queue, jid=jid))
            await shop.enqueue(Job("Other::Worker", values, queue=queue, jid=f"{jid}+"), in_=0.2)
    found = Counter[str]()
    for queue in QUEUES:
        here = jids(queued(clean, queue))
        assert set(here) == {jid for jid, (where, _) in jobs().items() if where == queue}
        found += here
    assert found == Counter(jobs().keys())
    async with Shop(redis_url=clean.url):
        await eventually(lambda: len(ran) == 2 * len(jobs()), "all to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert set(ran.values()) == {1}


async def test_through_the_schedule(clean: TestServer) -> None:
    due = time.time() - 1
    for jid, (queue, args) in jobs().items():
        clean.cli("ZADD", "schedule", due, payload(jid, queue, args))
    same_args(words(clean.cli("ZRANGE", "schedule", 0, -1)))
    async with Shop(redis_url=clean.url):
        await all_run(clean)


async def test_through_the_retry_set(clean: TestServer) -> None:
    """Each fails once; what stands in the retry set then has the text of its args as it came."""
    push_raw(clean)
    fails.update(jobs())
    async with Shop(redis_url=clean.url, schedulers=[]):
        await eventually(lambda: len(ran) == len(jobs()) and not fails, "all to fail once")
        await eventually(lambda: not held(clean), "everything to be settled")
    retries = words(clean.cli("ZRANGE", "retry", 0, -1))
    same_args(retries)
    assert {json.loads(raw)["retry_count"] for raw in retries} == {0}
    async with Shop(redis_url=clean.url):
        await all_run(clean, times=2)


async def test_through_a_rescue(clean: TestServer) -> None:
    """A process claims them all and is never seen again."""
    push_raw(clean)
    gone = RedisBackend(clean.url, "gone:1:aa", clock=FakeClock())
    for queue in QUEUES:
        clean.cli("SET", "kiq:lease:gone:1:aa", 1)
        assert len((await gone.fetch(queue, 100, 1)).payloads) == len(ARGS)
    clean.cli("DEL", "kiq:lease:gone:1:aa")
    await gone.close()
    async with Shop(redis_url=clean.url, suspicion=0.5) as shop:
        rescued: list[Any] = []
        shop.attach("job.recovered", rescued.append)
        await all_run(clean)
    assert {(event.jid, event.queue, event.count) for event in rescued} == {
        (jid, queue, 1) for jid, (queue, _) in jobs().items()
    }


async def test_a_rescue_leaves_args_as_they_are(clean: TestServer) -> None:
    push_raw(clean)
    gone = RedisBackend(clean.url, "gone:1:aa", clock=FakeClock())
    for queue in QUEUES:
        clean.cli("SET", "kiq:lease:gone:1:aa", 1)
        await gone.fetch(queue, 100, 1)
    clean.cli("DEL", "kiq:lease:gone:1:aa")
    await gone.close()
    async with Shop(redis_url=clean.url, suspicion=0.5, queues={"elsewhere": 1}):
        await eventually(lambda: not held(clean), "all to go back")
    payloads = [raw for queue in QUEUES for raw in queued(clean, queue)]
    same_args(payloads)
    for queue in QUEUES:
        order = [json.loads(raw)["jid"] for raw in queued(clean, queue)]
        assert order == [jid for jid, (where, _) in jobs().items() if where == queue][::-1]


@pytest.mark.parametrize("said", ["", '"queue": "elsewhere", '], ids=["none", "another"])
async def test_a_retry_comes_back_to_the_queue_the_job_was_in(clean: TestServer, said: str) -> None:
    """A payload that names no queue, or another one, went to a queue that nobody works on."""
    raw = f'{{"class": "Other::Worker", "args": [], "jid": "lone", {said}"retry": 3}}'
    clean.cli("LPUSH", "queue:a-b", raw)
    fails.add("lone")
    async with Shop(redis_url=clean.url):
        await eventually(lambda: ran["lone"] == 2, "the retry to run")
        await eventually(lambda: not held(clean), "everything to be settled")
    assert not everywhere(clean, [*QUEUES, "default", "elsewhere"])

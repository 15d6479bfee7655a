"""`perform` gets the values of a worker's codecs back, whatever way the job took."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kiqpy import App, ArgumentError, Worker, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

WHEN = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
got: list[Any] = []


@dataclass(frozen=True)
class Money:
    amount: Decimal


@worker(codecs=[datetime, Decimal, Money])
async def invoice(total: Money, *, due: datetime = WHEN, more: Any = None) -> None:
    got.append((total, due, more))


class Thread(Worker, codecs=[UUID]):
    def perform(self, key: UUID, *rest: UUID) -> None:
        got.append((key, rest))


@worker(executor="process", codecs=[set])
def apart(values: set[int]) -> None:
    assert values == {1, 2}


class Jobs(App):
    queues = {"default": 3}
    workers = [invoice, Thread, apart]


@pytest.fixture(autouse=True)
def fresh() -> None:
    got.clear()


async def test_perform_gets_what_was_given(redis_url: str, clean: TestServer) -> None:
    async with Jobs(redis_url=redis_url, retry=0) as jobs:
        await jobs.enqueue(invoice.new(Money(Decimal("1.10")), due=WHEN, more=[{"a": Decimal(2)}]))
        await jobs.enqueue(Thread.new(UUID(int=1), UUID(int=2)))
        await jobs.enqueue(apart.new({1, 2}))
        await eventually(lambda: clean.cli("GET", "stat:processed") == "3", "the acks")
    assert clean.cli("GET", "stat:failed") in (None, "0")
    assert (Money(Decimal("1.10")), WHEN, [{"a": Decimal(2)}]) in got
    assert (UUID(int=1), (UUID(int=2),)) in got


async def test_what_can_not_be_read_fails_like_any_job(redis_url: str, clean: TestServer) -> None:
    payload = {
        "class": "invoice", "args": [{"$type": "os.system", "$value": "x"}], "jid": "1",
        "queue": "default", "retry": True,
    }  # fmt: skip
    async with Jobs(redis_url=redis_url):
        clean.cli("LPUSH", "queue:default", json.dumps(payload))
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "its retry")
    raw = clean.cli("ZRANGE", "retry", 0, 0)
    assert isinstance(raw, list)
    kept = json.loads(str(raw[0]))
    assert kept["error_class"].endswith("ArgumentError")
    assert "argument 'total' is of the type 'os.system'" in kept["error_message"]
    assert got == []


async def test_unique_jobs_are_recognised_by_their_values(redis_url: str) -> None:
    one, other = (
        worker(unique_for=60, codecs=[datetime, set])(tell).new({"b", "a"}, when=WHEN)
        for _ in range(2)
    )
    assert one.payload["unique_token"] == other.payload["unique_token"]
    third = worker(unique_for=60, codecs=[datetime, set])(tell).new({"b"}, when=WHEN)
    assert third.payload["unique_token"] != one.payload["unique_token"]


async def tell(names: set[str], *, when: datetime) -> None:
    await asyncio.sleep(0)


async def test_without_codecs_it_is_json_only() -> None:
    @worker
    async def plain(when: datetime) -> None: ...

    with pytest.raises(ArgumentError, match="'when' is a datetime: jobs carry JSON only"):
        plain.new(WHEN)

"""Payloads of 900 KB: no step of the upkeep carries more of them than a slow link can."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from kiqpy import App, worker
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

let_go = asyncio.Event()


@worker(name="carries", queue="large")
async def carries(text: str) -> None:
    assert text
    await let_go.wait()


class Jobs(App):
    queues = {"large": 3}
    workers = [carries]
    heartbeat_interval = 0.1


async def test_a_heartbeat_shows_the_head_of_a_payload(redis_url: str, clean: TestServer) -> None:
    """Each heartbeat sent every running job whole, twice a lease."""
    let_go.clear()
    jobs = Jobs(redis_url=redis_url)
    async with jobs:
        receipts = [await jobs.enqueue(carries.new("x" * 900_000)) for _ in range(3)]

        def shown() -> list[str]:
            return cast("list[str]", clean.cli("HVALS", f"{jobs.store.ident}:work"))

        await eventually(lambda: len(shown()) == 3, "all to be shown")
        assert all(len(text) < 10_000 for text in shown())
        payloads = [json.loads(json.loads(text)["payload"]) for text in shown()]
        assert {each["jid"] for each in payloads} == {receipt.jid for receipt in receipts}
        assert {each["class"] for each in payloads} == {"carries"}
        let_go.set()

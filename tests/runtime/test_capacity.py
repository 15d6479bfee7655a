"""How many jobs of a queue are claimed, if all its workers need a thread or a child process."""

from __future__ import annotations

from typing import Any

import pytest

from kiqpy import QueueGroup, worker
from kiqpy._declare.sources import QueueSpec
from kiqpy._registry import Registry
from kiqpy._runtime.capacity import Capacity
from kiqpy.queues import Queue


@worker
async def waits() -> None: ...


@worker
def blocks() -> None: ...


@worker(executor="process")
def computes() -> None: ...


@worker(queue="mail", retry_queue="again")
def sends() -> None: ...


DEFAULT = Queue(25)
MAIL = Queue(25, "mail")
BOTH = QueueGroup(["default", "mail"], 25)


@pytest.mark.parametrize(
    ("workers", "spec", "limit"),
    [
        ([blocks], DEFAULT, 4),
        ([computes], DEFAULT, 2),
        ([blocks, computes], DEFAULT, 6),
        ([blocks, waits], DEFAULT, 25),
        ([blocks], Queue(3), 3),
        ([blocks], MAIL, 25),  # what comes there is not known
        ([sends], MAIL, 4),
        ([sends], Queue(25, "again"), 4),
        ([blocks, sends], BOTH, 4),
        ([computes, sends], BOTH, 6),
        ([waits, sends], BOTH, 25),
        ([sends], BOTH, 25),
        ([blocks, sends], QueueGroup(["default", "mail*"], 25), 25),
    ],
)
def test_no_more_are_claimed_than_can_run(workers: list[Any], spec: QueueSpec, limit: int) -> None:
    capacity = Capacity(Registry(workers).specs(), threads=4, processes=2)
    assert capacity.bound(spec.concurrency, spec) == limit

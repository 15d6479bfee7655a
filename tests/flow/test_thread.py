"""Code of other threads and loops runs in the loop of an app."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from kiqpy._flow import thread
from kiqpy._flow.thread import LoopThread, running_loop
from kiqpy.errors import LifecycleError


@pytest.fixture
def home() -> Iterator[LoopThread]:
    """A loop that runs in a thread of its own."""
    made: Future[LoopThread] = Future()
    ending = threading.Event()

    async def live() -> None:
        made.set_result(LoopThread())
        await asyncio.to_thread(ending.wait)

    living = threading.Thread(target=lambda: asyncio.run(live()))
    living.start()
    yield made.result(20)
    ending.set()
    living.join(20)


def test_nothing_begins_if_nobody_could_wait_for_it(
    home: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under trio: it began, and raised that it could not."""
    ran: list[str] = []

    async def work(name: str) -> None:
        ran.append(name)

    def late() -> asyncio.AbstractEventLoop:
        home.run(work("a later one"))  # after all that has begun before
        return running_loop()

    monkeypatch.setattr(thread, "running_loop", late)
    with pytest.raises(LifecycleError, match="here is none"):
        home.hand_over(work("handed over")).send(None)
    assert ran == ["a later one"]


def test_another_loop_awaits_what_runs_at_home(home: LoopThread) -> None:
    async def who() -> int:
        return threading.get_ident()

    assert asyncio.run(home.hand_over(who())) == home.run(who()) != threading.get_ident()

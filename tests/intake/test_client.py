"""The client accepts jobs at memory speed, stores each once, and reports how far behind it is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiqpy import BufferFull, Job, LifecycleError, StoreRefused
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._intake.buffer import Buffer, Pending, size_of
from kiqpy._intake.client import Client, ClientSettings
from kiqpy.event import Event, FlushFailed, FlushRestored, JobRefused
from kiqpy.receipt import Receipt
from kiqpy.store import Frame, OutgoingJob, Pushed
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest
from tests.faults import Faults, Faulty

pytestmark = pytest.mark.anyio


class Office:
    """A client on a store in memory that may fail, and everything that is sent and told."""

    def __init__(self, **changes: Any) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.faults = Faults()
        self.events: list[Event] = []
        self.frames: list[Frame[OutgoingJob]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        backend = MemoryBackend(self.server, "me:1:a")
        self.session = Session(Faulty(backend, self.faults), self.clock)
        self.client = Client(self, self.clock, ClientSettings(**changes), self.events.append)
        self.admission = Admission(AdmissionSettings(), self.clock)

    async def push(self, frame: Frame[OutgoingJob]) -> list[Pushed]:
        self.frames.append(frame)
        await self.gate.wait()
        return await self.session.push(frame)

    async def withdraw(self, frame: Frame[OutgoingJob]) -> list[Pushed] | None:
        return await self.session.withdraw(frame)

    def admit(self, argument: object = 0, **fields: Any) -> OutgoingJob:
        admitted = self.admission.at_once(Job("noop", [argument], **fields))
        assert isinstance(admitted, OutgoingJob)
        return admitted

    def nowait(self, n: int = 0, **fields: Any) -> Receipt:
        return self.client.push_nowait(self.admit(n, **fields))

    def pushing(self, *numbers: int, atomic: bool = False) -> asyncio.Task[list[Receipt]]:
        outgoing = [self.admit(n) for n in numbers]
        return asyncio.create_task(self.client.push(outgoing, atomic=atomic))

    def stored(self, queue: str = "default") -> list[int]:
        """First arguments of what is in the queue, oldest first."""
        return [json.loads(raw)["args"][0] for raw in reversed(self.server.queues[queue])]

    def sizes(self) -> list[int]:
        return [len(frame.items) for frame in self.frames]

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def away(self, times: int = 100_000) -> None:
        self.faults.fail("push", "before", times=times)


@asynccontextmanager
async def office(**changes: Any) -> AsyncIterator[Office]:
    it = Office(**changes)
    await it.client.start()
    try:
        yield it
    finally:
        it.gate.set()
        it.faults.heal()
        stopping = asyncio.create_task(it.client.stop(10.0))
        await it.clock.advance(11)
        assert await stopping == 0
        assert it.client.snapshot().buffered == 0


# -- when it is sent


async def test_a_push_alone_is_sent_at_once_and_returns_when_it_is_durable() -> None:
    async with office() as it:
        [receipt] = await it.pushing(7)
        assert receipt.state == "queued"
        assert it.clock.monotonic() == 0.0
        assert it.stored() == [7]
        assert json.loads(it.server.queues["default"][0])["jid"] == receipt.jid


async def test_what_comes_while_a_frame_is_under_way_is_the_next_frame() -> None:
    async with office() as it:
        it.gate.clear()
        tasks = [it.pushing(0)]
        await rest()
        tasks += [it.pushing(n) for n in range(1, 50)]
        await rest()
        assert not any(task.done() for task in tasks)
        it.gate.set()
        await asyncio.gather(*tasks)
        assert it.sizes() == [1, 49]
        assert it.stored() == list(range(50))


async def test_a_frame_is_bounded() -> None:
    async with office() as it:
        for n in range(2500):
            it.nowait(n)
        await it.client.flush()
        assert it.sizes() == [1000, 1000, 500]


async def test_nowait_lingers_a_moment_so_that_more_come_together() -> None:
    async with office(flush_interval_s=0.5) as it:
        assert it.nowait(1).state == "buffered"
        await it.clock.advance(0.4)
        it.nowait(2)
        assert it.frames == []
        await it.clock.advance(0.2)
        assert it.sizes() == [2]


async def test_a_push_ends_the_lingering() -> None:
    async with office(flush_interval_s=5) as it:
        it.nowait(1)
        await rest()
        await it.pushing(2)
        assert it.clock.monotonic() == 0.0
        assert it.stored() == [1, 2]


async def test_flush_returns_when_all_is_durable() -> None:
    async with office(flush_interval_s=5) as it:
        await it.client.flush()
        it.nowait(1)
        await it.client.flush()
        assert it.stored() == [1]
        assert it.clock.monotonic() == 0.0


async def test_a_cancelled_push_stays_accepted() -> None:
    async with office() as it:
        it.gate.clear()
        pushing = it.pushing(1)
        await rest()
        pushing.cancel()
        await rest()
        it.gate.set()
        await it.client.flush()
        assert it.stored() == [1]


# -- what is answered


async def test_receipts_come_in_the_order_of_the_jobs() -> None:
    async with office() as it:
        later = it.admit(1, in_s=60)
        outgoing = [it.admit(0, jid="first"), later, it.admit(2, queue="other")]
        receipts = await it.client.push(outgoing)
        assert [receipt.state for receipt in receipts] == ["queued", "scheduled", "queued"]
        assert [receipt.jid for receipt in receipts] == [each.jid for each in outgoing]
        assert it.stored("other") == [2]


async def test_a_refusal_is_raised_to_who_waits_and_told_of_who_does_not() -> None:
    async with office() as it:
        it.server.pushes.keep(it.client._nonce, 99, [])
        it.gate.clear()
        pushing = it.pushing(1)
        await rest()
        it.nowait(2, jid="second")
        it.gate.set()
        with pytest.raises(StoreRefused, match="not enqueued"):
            await pushing
        await it.client.flush()
        [refused] = it.told(JobRefused)
        assert (refused.jid, refused.queue) == ("second", "default")
        it.server.pushes.keep(it.client._nonce, 0, [])


async def test_an_atomic_group_is_a_frame_of_its_own() -> None:
    async with office() as it:
        it.gate.clear()
        first = it.pushing(0)
        await rest()
        tasks = [it.pushing(1), it.pushing(2, 3, atomic=True), it.pushing(4), it.pushing(5)]
        await rest()
        it.gate.set()
        await asyncio.gather(first, *tasks)
        assert it.sizes() == [1, 1, 2, 2]
        assert [frame.atomic for frame in it.frames] == [False, False, True, False]
        assert it.stored() == list(range(6))


# -- when the store is away


async def test_the_first_waits_for_confirm_timeout_the_next_know_at_once() -> None:
    async with office(confirm_timeout_s=5.0) as it:
        it.away()
        first, second = it.pushing(1), it.pushing(2)
        await it.clock.advance(4.9)
        assert not first.done()
        assert not second.done()
        await it.clock.advance(0.2)
        assert [receipt.state for receipt in (await first) + (await second)] == ["buffered"] * 2
        before = it.clock.monotonic()
        assert (await it.pushing(3))[0].state == "buffered"
        assert it.clock.monotonic() == before
        it.faults.heal()
        await it.clock.advance(6)
        assert it.stored() == [1, 2, 3]
        assert (await it.pushing(4))[0].state == "queued"


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    async with office() as it:
        for outage in (1, 2):
            it.away()
            it.nowait(1)
            await it.clock.advance(60)
            for n in range(20):
                it.nowait(n)
            await it.clock.advance(60)
            it.faults.heal()
            await it.clock.advance(6)
            assert len(it.told(FlushFailed)) == len(it.told(FlushRestored)) == outage
        assert it.told(FlushFailed)[0].buffered == 1
        assert 115 <= it.told(FlushRestored)[0].away_s <= 130


async def test_tries_become_rarer_and_stay_within_five_seconds() -> None:
    async with office() as it:
        it.away()
        it.nowait(1)
        await it.clock.advance(100)
        assert 25 <= len(it.frames) <= 70


async def test_a_short_outage_keeps_who_waits_waiting() -> None:
    async with office(confirm_timeout_s=5.0) as it:
        it.away(times=3)
        pushing = it.pushing(1)
        await it.clock.advance(1)
        assert [receipt.state for receipt in await pushing] == ["queued"]


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_frame_that_is_sent_again_is_the_same_frame(how: Any) -> None:
    async with office() as it:
        it.faults.fail("push", how, times=4)
        first = it.pushing(1, 2)
        await rest()
        second = it.pushing(3)
        await it.clock.advance(2)
        assert [r.state for r in (await first) + (await second)] == ["queued"] * 3
        assert len({id(frame) for frame in it.frames[:5]}) == 1
        assert [frame.sequence for frame in it.frames] == [1, 1, 1, 1, 1, 2]
        assert it.stored() == [1, 2, 3]


async def test_a_request_that_arrives_late_doubles_nothing() -> None:
    async with office() as it:
        it.faults.fail("push", "late")
        pushing = it.pushing(1)
        await it.clock.advance(1)
        assert [receipt.state for receipt in await pushing] == ["queued"]
        await it.pushing(2)
        await it.faults.release()
        assert it.stored() == [1, 2]
        assert len(it.faults.late_errors) == 1


async def test_order_is_kept_through_an_outage() -> None:
    """Younger jobs overtook a chunk: they were sent in the rest of the frame before it."""
    async with office() as it:
        it.away()
        sent: list[int] = []
        for n in range(730):
            it.nowait(n)
            sent.append(n)
            if n % 50 == 0:
                await it.clock.advance(3)
        it.faults.heal()
        await it.clock.advance(10)
        assert it.stored() == sent


async def test_a_delay_counts_from_the_call_not_from_the_end_of_an_outage() -> None:
    async with office() as it:
        it.away()
        it.nowait(0)
        await it.clock.advance(10)
        accepted = it.clock.now()
        one = it.admit(1, in_s=60)
        it.client.push_nowait(one)
        await it.clock.advance(40)
        it.faults.heal()
        await it.clock.advance(6)
        [(due, _)] = it.server.places["schedule"].slice(0, 9)
        assert due == pytest.approx(accepted + 60, abs=0.01)


async def test_what_must_wait_is_compressed_and_counted_both_ways() -> None:
    async with office() as it:
        it.away()
        for n in range(1000):
            it.nowait(n)
        raw = it.client.snapshot()
        assert raw.raw_bytes == raw.held_bytes > 100_000
        await it.clock.advance(6)
        for n in range(1000):
            it.nowait(n)
        packed = it.client.snapshot()
        assert packed.buffered == 2000
        assert packed.raw_bytes > 1.9 * raw.raw_bytes
        assert packed.held_bytes < 0.75 * packed.raw_bytes
        assert packed.oldest_s == 6.0
        assert "no answer" in str(packed.last_error)
        it.faults.heal()
        await it.clock.advance(6)
        assert it.client.snapshot() == (0, 0, 0, 0.0, None)
        assert len(it.stored()) == 2000


# -- how much it holds


async def test_a_full_buffer_makes_who_pushes_wait_and_then_raises() -> None:
    async with office(buffer_jobs=2, push_timeout_s=3.0) as it:
        it.away()
        it.nowait(1)
        it.nowait(2)
        with pytest.raises(BufferFull, match=r"2 jobs \(.*wait for the store.*raise buffer_limit"):
            it.nowait(3)
        await it.clock.advance(1)
        pushing = it.pushing(3)
        await it.clock.advance(2.9)
        assert not pushing.done()
        await it.clock.advance(0.2)
        with pytest.raises(BufferFull):
            await pushing
        assert it.client.snapshot().buffered == 2


async def test_who_waits_for_room_goes_on_when_there_is_some() -> None:
    async with office(buffer_jobs=2, push_timeout_s=60.0) as it:
        it.gate.clear()
        it.nowait(1)
        it.nowait(2)
        pushing = it.pushing(3)
        await it.clock.advance(1)
        assert not pushing.done()
        it.gate.set()
        assert (await pushing)[0].state == "queued"
        assert it.stored() == [1, 2, 3]


async def test_the_buffer_is_bounded_in_bytes_too() -> None:
    async with office(buffer_bytes=1000) as it:
        it.gate.clear()
        one = it.admit("x" * 700)
        it.client.push_nowait(one)
        with pytest.raises(BufferFull):
            it.client.push_nowait(one)
        assert it.client.snapshot().raw_bytes == len(one.payload)


# -- beginning and end


async def test_stop_says_how_many_are_not_durable_and_nobody_waits_for_ever() -> None:
    it = Office(confirm_timeout_s=1000.0)
    await it.client.start()
    it.away()
    pushing = it.pushing(1, 2)
    it.nowait(3)
    stopping = asyncio.create_task(it.client.stop(5.0))
    await it.clock.advance(5.1)
    assert await stopping == 3
    assert [receipt.state for receipt in await asyncio.wait_for(pushing, 5)] == ["buffered"] * 2
    with pytest.raises(LifecycleError, match="has stopped and takes no more jobs"):
        it.nowait(4)


async def test_stop_flushes_first() -> None:
    it = Office(flush_interval_s=10)
    await it.client.start()
    it.nowait(1)
    assert await it.client.stop(5.0) == 0
    assert it.stored() == [1]
    assert await it.client.stop(5.0) == 0


async def test_stop_before_the_start() -> None:
    assert await Office().client.stop(5.0) == 0


@pytest.mark.parametrize("how", ["before", "after", "late"])
async def test_what_a_stop_could_not_send_goes_first_after_the_next_start(how: Any) -> None:
    """The frame under way was lost, and the rest was never flushed."""
    it = Office(confirm_timeout_s=1000.0)
    await it.client.start()
    it.faults.fail("push", how, times=100_000)
    it.gate.clear()
    it.nowait(1)
    flushing = asyncio.create_task(it.client.flush())
    await rest()
    it.gate.set()
    it.nowait(2)
    stopping = asyncio.create_task(it.client.stop(5.0))
    await it.clock.advance(5.1)
    assert await stopping == 2
    await it.faults.release()
    it.faults.heal()
    await it.client.start()
    it.nowait(3)
    await asyncio.gather(flushing, it.client.flush())
    await it.faults.release()
    assert it.stored() == [1, 2, 3]
    assert await it.client.stop() == 0


async def test_sequence_numbers_are_never_used_twice() -> None:
    it = Office()
    for n in range(3):
        await it.client.start()
        await it.pushing(n)
        await it.pushing(n)
        await it.client.stop(5.0)
    numbers = [(frame.source, frame.sequence) for frame in it.frames]
    assert len(set(numbers)) == len(numbers) == 6
    assert it.stored() == [0, 0, 1, 1, 2, 2]


# -- the buffer by itself


def outgoing(n: int) -> OutgoingJob:
    return OutgoingJob("q", str(n), b"x" * 50)


PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([1, 3, 99, 100, 700])),
        st.tuples(st.just("group"), st.integers(1, 5)),
        st.tuples(st.just("pack"), st.just(0)),
        st.tuples(st.just("take"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_the_buffer_is_first_in_first_out_and_counts_right(pieces: list[tuple[str, int]]) -> None:
    buffer, number = Buffer(), 0
    taken: list[Pending] = []

    def take() -> None:
        frame = buffer.take()
        assert not any(pending.atomic for pending in frame) or len(frame) == 1
        taken.extend(frame)
        buffer.forget(frame)

    for what, n in pieces:
        if what == "add":
            for _ in range(n):
                buffer.add(Pending((p := (outgoing(number),)), size_of(p), 0.0))
                number += 1
        elif what == "group":
            some = [outgoing(number + k) for k in range(n)]
            buffer.add(Pending(some, size_of(some), 0.0, None, True))
            number += n
        elif what == "pack":
            buffer.pack()
        elif buffer.jobs:
            take()
        jids = [p.jid for pending in taken for p in pending.outgoing]
        assert buffer.jobs == number - len(jids)
        assert buffer.raw_bytes == 50 * buffer.jobs
        assert 0 <= buffer.held_bytes <= buffer.raw_bytes
    while buffer.jobs:
        take()
    assert [p.jid for pending in taken for p in pending.outgoing] == [str(n) for n in range(number)]
    assert (buffer.raw_bytes, buffer.held_bytes) == (0, 0)
    assert buffer.oldest() is None


# -- after a fork

FORK = textwrap.dedent("""
    import asyncio, os, sys
    from kiqpy import LifecycleError
    from kiqpy._intake.client import Client, ClientSettings
    from kiqpy.store import OutgoingJob
    from kiqpy.testing import FakeClock

    client = Client(None, FakeClock(), ClientSettings())
    one = OutgoingJob("q", "1", b"{}")

    async def main():
        client.push_nowait(one)
        child = os.fork()
        if child == 0:
            held = client.snapshot().buffered
            try:
                client.push_nowait(one)
            except LifecycleError as error:
                print(held, client.snapshot().buffered, error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(client.snapshot().buffered)

    asyncio.run(main())
""")


def test_after_a_fork_the_childs_buffer_is_empty_and_pushing_raises() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True
    )
    child, parent = ran.stdout.splitlines()
    assert child.startswith("0 0 this process was forked from one that runs the app: start an app")
    assert parent == "1"

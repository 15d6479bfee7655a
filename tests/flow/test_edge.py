"""An edge: demand flows left, batches flow right, credit comes back when items are done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiqpy._flow.edge import Edge, EdgeStatistics
from kiqpy.testing import rest

pytestmark = pytest.mark.anyio


def test_demand_is_what_is_neither_waiting_nor_under_way() -> None:
    edge: Edge[int] = Edge(3)
    assert edge.demand() == 3
    edge.offer([1, 2])
    assert edge.demand() == 1
    assert edge.statistics() == EdgeStatistics(limit=3, owed=2, waiting=2, closed=False)


async def test_credit_comes_back_when_done_and_not_when_taken() -> None:
    edge: Edge[int] = Edge(2)
    edge.offer([1, 2])
    assert await edge.get() == [1, 2]
    assert edge.demand() == 0
    assert edge.statistics().waiting == 0
    edge.done(1)
    assert edge.demand() == 1


def test_more_than_the_demand_is_a_defect() -> None:
    edge: Edge[int] = Edge(2)
    with pytest.raises(RuntimeError, match="3 items put where 2 were asked for"):
        edge.offer([1, 2, 3])
    assert edge.demand() == 2


async def test_an_edge_with_a_source_gives_its_credit_to_the_source() -> None:
    left: Edge[str] = Edge(2)
    right: Edge[str] = Edge(2, source=left)
    left.offer(["a", "b"])
    right.offer(list(await left.get() or []))
    assert (left.demand(), right.demand()) == (0, 0)
    right.done(2)
    assert (left.demand(), right.demand()) == (2, 2)


async def test_who_wants_to_put_waits_for_credit() -> None:
    edge: Edge[int] = Edge(1)
    assert await edge.wanted() == 1
    edge.offer([1])
    wanted = asyncio.create_task(edge.wanted())
    await rest()
    assert not wanted.done()
    edge.done(1)
    assert await wanted == 1


async def test_a_wake_makes_who_waits_for_demand_look_again() -> None:
    edge: Edge[int] = Edge(1)
    edge.offer([1])
    wanted = asyncio.create_task(edge.wanted())
    await rest()
    edge.wake()
    assert await wanted == 0


async def test_put_goes_in_as_room_comes_up() -> None:
    edge: Edge[int] = Edge(2)
    putting = asyncio.create_task(edge.put([1, 2, 3, 4, 5]))
    seen: list[int] = []
    while len(seen) < 5:
        batch = await edge.get()
        assert batch is not None
        assert len(batch) <= 2
        seen += batch
        edge.done(len(batch))
        await rest()
    await putting
    assert seen == [1, 2, 3, 4, 5]


async def test_two_who_put_share_the_room() -> None:
    edge: Edge[int] = Edge(1)
    putting = [asyncio.create_task(edge.put([n] * 3)) for n in (1, 2)]
    seen: list[int] = []
    for _ in range(6):
        seen += await edge.get() or []
        assert edge.statistics().owed == 1
        edge.done(1)
    await asyncio.gather(*putting)
    assert sorted(seen) == [1, 1, 1, 2, 2, 2]


async def test_a_wake_does_not_make_put_exceed_the_limit() -> None:
    edge: Edge[int] = Edge(1)
    edge.offer([1])
    putting = asyncio.create_task(edge.put([2]))
    await rest()
    edge.wake()
    await rest()
    assert edge.statistics().owed == 1
    assert not putting.done()
    edge.done(1)
    await putting


async def test_get_merges_what_waits() -> None:
    edge: Edge[int] = Edge(9)
    for batch in ([1, 2], [3], [4, 5]):
        edge.offer(batch)
    assert await edge.get() == [1, 2, 3, 4, 5]


async def test_the_end_is_seen_after_the_last_batch_and_again() -> None:
    edge: Edge[int] = Edge(9)
    edge.offer([1])
    edge.close()
    edge.close()
    assert await edge.get() == [1]
    assert await edge.get() is None
    assert await edge.get() is None
    assert edge.statistics().closed


async def test_nothing_is_put_on_a_closed_edge() -> None:
    edge: Edge[int] = Edge(9)
    edge.close()
    with pytest.raises(RuntimeError, match="closed"):
        edge.offer([1])
    with pytest.raises(RuntimeError, match="closed"):
        await edge.put([1])


async def test_a_cancelled_get_has_taken_nothing() -> None:
    edge: Edge[int] = Edge(9)
    getting = asyncio.create_task(edge.get())
    await rest()
    edge.offer([1])
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert await edge.get() == [1]


async def test_shed_drops_the_oldest_and_gives_their_credit_back() -> None:
    edge: Edge[int] = Edge(5)
    edge.offer([1, 2])
    edge.offer([3, 4, 5])
    assert edge.shed(3) == 3
    assert edge.statistics() == EdgeStatistics(limit=5, owed=2, waiting=2, closed=False)
    edge.offer([6])
    assert await edge.get() == [4, 5, 6]


async def test_shed_drops_no_more_than_waits_and_leaves_the_end() -> None:
    edge: Edge[int] = Edge(5)
    edge.offer([1])
    assert await edge.get() == [1]
    edge.offer([2])
    edge.close()
    assert edge.shed(-1) == 0
    assert edge.shed(9) == 1
    assert await edge.get() is None
    assert edge.statistics().owed == 1


async def test_shed_while_a_reader_waits_loses_nothing_else() -> None:
    """The reader was woken for a batch that `shed` then shortened: it lost what was left."""
    edge: Edge[int] = Edge(2)
    getting = asyncio.create_task(edge.get())
    await rest()
    edge.offer([1, 2])
    assert edge.shed(1) == 1
    edge.offer([3])
    assert await getting == [2, 3]
    assert edge.statistics() == EdgeStatistics(limit=2, owed=2, waiting=0, closed=False)


async def test_a_reader_wakes_for_what_shed_has_left() -> None:
    edge: Edge[int] = Edge(2)
    getting = asyncio.create_task(edge.get())
    await rest()
    edge.offer([1, 2])
    edge.shed(1)
    assert await asyncio.wait_for(getting, 5) == [2]


async def test_an_empty_batch_is_not_the_end() -> None:
    edge: Edge[int] = Edge(2)
    edge.offer([])
    getting = asyncio.create_task(edge.get())
    await rest()
    assert not getting.done()
    edge.offer([1])
    assert await getting == [1]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 4)),
        st.tuples(st.just("put"), st.integers(1, 9)),
        st.tuples(st.just("get"), st.just(0)),
        st.tuples(st.just("done"), st.integers(1, 4)),
        st.tuples(st.just("shed"), st.integers(0, 5)),
        st.tuples(st.just("race"), st.integers(0, 3)),
        st.tuples(st.just("wake"), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


class Walk:
    """One edge under a list of steps: what went in, what came out, what was dropped."""

    def __init__(self, limit: int) -> None:
        self.edge: Edge[int] = Edge(limit)
        self.number = 0
        self.put: list[int] = []
        self.got: list[int] = []
        self.undone = self.dropped = 0
        self.putting: list[asyncio.Task[None]] = []
        self.getting: asyncio.Task[list[int] | None] | None = None

    def fresh(self, n: int) -> list[int]:
        items = list(range(self.number, self.number + n))
        self.number += n
        self.put += items
        return items

    async def step(self, what: str, n: int) -> None:
        match what:
            case "offer" if self.edge.demand() > 0:
                self.edge.offer(self.fresh(min(n, self.edge.demand())))
            case "put":
                self.putting.append(asyncio.create_task(self.edge.put(self.fresh(n))))
            case "get" if self.getting is None:
                self.getting = asyncio.create_task(self.edge.get())
            case "race":  # `shed` comes between a reader's waking and its turn
                self.getting = self.getting or asyncio.create_task(self.edge.get())
                await asyncio.sleep(0)
                self.edge.offer(self.fresh(max(0, min(3, self.edge.demand()))))
                self.dropped += self.edge.shed(n)
            case "done" if self.undone:
                self.finish(min(n, self.undone))
            case "shed":
                self.dropped += self.edge.shed(n)
            case "wake":
                self.edge.wake()
            case _:
                for _ in range(n):
                    await asyncio.sleep(0)
        self.collect()
        owed = self.edge.statistics().owed
        assert 0 <= owed <= self.edge.limit
        assert self.edge.demand() == self.edge.limit - owed

    def finish(self, n: int) -> None:
        self.undone -= n
        self.edge.done(n)

    def collect(self) -> None:
        if self.getting is not None and self.getting.done():
            batch, self.getting = self.getting.result() or [], None
            self.got += batch
            self.undone += len(batch)

    async def end(self) -> None:
        """Read until everything that was put is out."""
        rounds = 0
        while any(not task.done() for task in self.putting) or self.edge.statistics().waiting:
            rounds += 1
            assert rounds < 1000, f"something waits that nobody can get: {self.edge}"
            await self.step("get", 0)
            await self.step("turn", 3)
            self.finish(self.undone)
        self.edge.close()
        while (batch := await (self.getting or self.edge.get())) is not None:
            self.getting = None
            self.got += batch
            self.undone += len(batch)
        self.finish(self.undone)


async def walked(limit: int, steps: Iterable[tuple[str, int]]) -> Walk:
    walk = Walk(limit)
    for what, n in steps:
        await walk.step(what, n)
    await walk.end()
    return walk


@settings(max_examples=150, deadline=None)
@given(limit=st.integers(1, 6), steps=STEPS)
def test_in_any_order_of_steps_nothing_is_lost_and_never_is_more_owed_than_the_limit(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    walk = asyncio.run(walked(limit, steps))
    assert len(walk.got) == len(set(walk.got))
    assert len(walk.got) + walk.dropped == len(walk.put)
    assert walk.edge.statistics() == EdgeStatistics(limit, owed=0, waiting=0, closed=True)
    if not any(what == "put" for what, _ in steps):  # several who put take turns
        assert walk.got == sorted(walk.got)


# -- set aside


def taken(edge: Edge[int], n: int) -> None:
    edge.offer(list(range(n)))


async def test_an_item_that_is_set_aside_leaves_its_credit_to_others() -> None:
    edge: Edge[int] = Edge(2, aside_limit=2)
    taken(edge, 2)
    edge.set_aside()
    assert edge.demand() == 1
    assert edge.statistics().aside == 1
    taken(edge, 1)
    back = asyncio.create_task(edge.take_back())
    await rest()
    assert not back.done()
    edge.done(1)
    await back
    assert (edge.demand(), edge.statistics().aside) == (0, 0)


async def test_who_was_set_aside_comes_back_in_order_and_before_new_items() -> None:
    edge: Edge[int] = Edge(1, aside_limit=3)
    back: list[asyncio.Task[None]] = []
    for _ in range(3):
        taken(edge, 1)
        edge.set_aside()
    taken(edge, 1)
    wanted = asyncio.create_task(edge.wanted())
    for _ in range(3):
        back.append(asyncio.create_task(edge.take_back()))
        await rest()
    for n in range(3):
        edge.done(1)
        await rest()
        assert [task.done() for task in back] == [True] * (n + 1) + [False] * (2 - n)
        assert edge.demand() == 0
    edge.done(1)
    await rest()
    assert edge.demand() == 1
    wanted.cancel()


async def test_beyond_the_bound_those_that_are_aside_count_as_owed() -> None:
    edge: Edge[int] = Edge(2, aside_limit=1)
    taken(edge, 2)
    edge.set_aside()
    edge.set_aside()
    assert edge.demand() == 1
    with pytest.raises(RuntimeError, match="2 items put where 1 were asked for"):
        taken(edge, 2)
    edge.recall()
    assert edge.demand() == 1
    edge.recall()
    assert edge.demand() == 0


@pytest.mark.parametrize("granted", [False, True])
async def test_a_return_that_is_cancelled_leaves_the_item_aside(granted: bool) -> None:
    edge: Edge[int] = Edge(1, aside_limit=1)
    taken(edge, 1)
    edge.set_aside()
    taken(edge, 1)
    back = asyncio.create_task(edge.take_back())
    await rest()
    if granted:
        edge.done(1)
    back.cancel()
    await rest()
    assert back.cancelled()
    assert edge.statistics().aside == 1
    if not granted:
        edge.done(1)
    assert edge.demand() == 1


async def test_a_higher_limit_lets_those_back_that_are_aside() -> None:
    edge: Edge[int] = Edge(1, aside_limit=1)
    taken(edge, 1)
    edge.set_aside()
    taken(edge, 1)
    back = asyncio.create_task(edge.take_back())
    await rest()
    edge.limit = 2
    edge.wake()
    await rest()
    assert back.done()
    assert edge.demand() == 0

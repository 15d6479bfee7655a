"""The leader: elected, renewed in time, trusted no longer than its term, resigned at the end."""

from __future__ import annotations

import pytest

from kiqpy._loops.lead import Leader
from kiqpy.errors import StoreUnavailable
from kiqpy.store._session import Session
from kiqpy.store.calendar import Calendar
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock

pytestmark = pytest.mark.anyio
TTL_S = 60.0


class Candidates:
    """Leaders over one store, what they told, and a way to cut one of them off."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.told: list[tuple[str, str]] = []
        self.woken: list[str] = []

    def one(self, ident: str, ttl_s: float = TTL_S) -> tuple[Leader, Line]:
        line = Line(Session(MemoryBackend(self.server, ident), self.clock).calendar, self.clock)
        leader = Leader(
            line, ident, "group", ttl_s, self.clock,
            lambda event: self.told.append((event.name, ident)),
            lambda: self.woken.append(ident),
        )  # fmt: skip
        return leader, line


class Line:
    """A calendar that can be out of reach, or slow to answer, or lose its answers."""

    def __init__(self, calendar: Calendar, clock: FakeClock) -> None:
        self._calendar, self._clock = calendar, clock
        self.cut = self.deaf = False
        self.slow_s = 0.0

    async def lead(self, ttl_s: float, group: str = "") -> bool:
        if self.cut:
            raise StoreUnavailable("gone")
        answer = await self._calendar.lead(ttl_s, group)
        if self.slow_s:
            await self._clock.advance(self.slow_s)
        if self.deaf:
            raise StoreUnavailable("no answer")
        return answer

    async def resign(self, group: str = "") -> None:
        if self.cut:
            raise StoreUnavailable("gone")
        await self._calendar.resign(group)

    def __getattr__(self, name: str) -> object:
        return getattr(self._calendar, name)


async def test_one_is_elected_and_renews_at_a_quarter() -> None:
    them = Candidates()
    (one, _), (two, _) = them.one("one"), them.one("two")
    for _ in range(10):
        assert await one.tick() == TTL_S / 4
        assert await two.tick() == TTL_S / 4
        assert (one.leads(), two.leads()) == (True, False)
        await them.clock.advance(TTL_S / 4)
    assert them.told == [("leader.elected", "one")], "once"
    assert them.woken == ["one"]


async def test_trust_ends_before_the_lease_does() -> None:
    them = Candidates()
    (one, line), (two, _) = them.one("one"), them.one("two")
    await one.tick()
    line.cut = True
    await them.clock.advance(TTL_S - 2.1)
    assert one.leads()
    with pytest.raises(StoreUnavailable):
        await one.tick()
    await them.clock.advance(0.2)
    assert not one.leads(), "two seconds before the lease is over"
    await two.tick()
    assert not two.leads()
    await them.clock.advance(2.0)
    await two.tick()
    assert two.leads()
    assert them.told == [
        ("leader.elected", "one"), ("leader.resigned", "one"), ("leader.elected", "two"),
    ]  # fmt: skip


async def test_it_is_trusted_from_when_the_request_was_sent() -> None:
    them = Candidates()
    one, line = them.one("one")
    line.slow_s = 59.0
    await one.tick()
    assert not one.leads(), "58 s of trust were over before the answer came"
    assert them.told == []
    line.slow_s = 50.0
    await one.tick()
    assert one.leads()
    await them.clock.advance(8.1)
    assert not one.leads()


async def test_an_election_whose_answer_is_lost_comes_out_at_the_next() -> None:
    them = Candidates()
    (one, line), (two, _) = them.one("one"), them.one("two")
    line.deaf = True
    with pytest.raises(StoreUnavailable):
        await one.tick()
    assert not one.leads()
    await two.tick()
    assert not two.leads()
    line.deaf = False
    await one.tick()
    assert one.leads()


async def test_one_that_lost_the_lease_hears_it_and_tells_it_once() -> None:
    them = Candidates()
    (one, _), (two, _) = them.one("one"), them.one("two")
    await one.tick()
    them.server.leaders.clear()
    await two.tick()
    await one.tick()
    await one.tick()
    assert (one.leads(), two.leads()) == (False, True)
    assert them.told == [
        ("leader.elected", "one"), ("leader.elected", "two"), ("leader.resigned", "one"),
    ]  # fmt: skip


async def test_who_resigns_is_followed_at_once() -> None:
    them = Candidates()
    (one, _), (two, _) = them.one("one"), them.one("two")
    await one.tick()
    await one.close()
    await one.close()
    assert not one.leads()
    await two.tick()
    await one.close()
    assert two.leads()
    await two.tick()
    assert two.leads(), "nobody resigned for it"
    assert them.told.count(("leader.resigned", "one")) == 1


async def test_to_resign_needs_no_answer() -> None:
    them = Candidates()
    one, line = them.one("one")
    await one.tick()
    line.cut = True
    await one.close()
    assert them.told[-1] == ("leader.resigned", "one")


async def test_a_short_lease_is_trusted_for_half_of_it() -> None:
    them = Candidates()
    one, _ = them.one("one", ttl_s=2.0)
    await one.tick()
    await them.clock.advance(0.9)
    assert one.leads()
    await them.clock.advance(0.2)
    assert not one.leads()

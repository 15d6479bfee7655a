"""A fetch without an answer: each of its jobs runs once, and none is left behind."""

from __future__ import annotations

from collections import Counter

import pytest

from kiqpy import StoreUnavailable
from kiqpy._stages.settler import Settler
from kiqpy.testing import rest
from tests.faults import Faults
from tests.sweep.simulation import House, Tenant

pytestmark = pytest.mark.anyio


async def claimed_without_answer(house: House, faults: Faults, jobs: int) -> Tenant:
    """A process whose last fetch was carried out, and nobody told it so."""
    tenant = await house.app("host:1:aa", faults).begin()
    await rest()
    faults.fail("fetch", "after", times=1)
    faults.fail("recover", "before", times=3)
    for n in range(jobs):
        tenant.take(f"j{n}")
    await house.clock.advance(0.02)
    assert len(house.held()) == jobs
    return tenant


async def test_what_a_lost_fetch_claimed_is_not_adopted_and_then_recovered() -> None:
    """It ran twice at the same time: two heartbeats saw an unknown job, the next fetch another."""
    house, faults = House(), Faults()
    tenant = await claimed_without_answer(house, faults, 1)
    for _ in range(3):
        await tenant.beat()
        await house.clock.advance(0.01)
    await house.clock.advance(20)
    assert house.starts == {"j0": 1}
    house.check()
    await tenant.__aexit__()


async def test_what_a_lost_fetch_claimed_goes_back_at_a_stop() -> None:  # it stayed
    house, faults = House(), Faults()
    tenant = await claimed_without_answer(house, faults, 2)
    await house.meanwhile(tenant.stop())
    assert house.held() == []
    assert house.starts == Counter()
    house.check()


async def test_a_queue_that_breaks_while_it_is_quiet_stays_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # it went on to claim jobs
    house, faults = House(), Faults()
    tenant = await house.app("host:1:aa", faults).begin()
    for n in range(5):
        tenant.take(f"j{n}")
    await house.clock.advance(0.02)
    settle, broken = Settler._settle, [True]

    async def break_once(self: Settler, batch: object) -> None:
        if broken:
            raise RuntimeError(broken.pop())
        await settle(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Settler, "_settle", break_once)
    await tenant.quiet()
    await house.meanwhile(tenant.stop(5.0), 8.0)
    assert house.starts == {"j0": 1, "j1": 1}, "those that ran when it broke, and no others"
    assert house.held() == []
    house.troubles.clear()
    house.check()


async def test_more_found_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery may bring more claims than there is room for: they wait, nothing breaks."""
    house, faults = House(), Faults()
    tenant = await claimed_without_answer(house, faults, 2)
    engine = tenant.engine
    assert engine is not None
    line = engine.pipelines.find("sweep")
    line._claims._owed += 1  # as if a stray had been adopted meanwhile
    await house.clock.advance(1)
    assert sum(house.starts.values()) == 1
    line._claims.done(1)
    await house.clock.advance(10)
    assert house.starts == {"j0": 1, "j1": 1}
    house.check()
    await tenant.__aexit__()


async def test_a_store_that_is_away_does_not_hold_up_a_stop() -> None:
    house, faults = House(), Faults()
    tenant = await house.app("host:1:aa", faults).begin()
    await house.clock.advance(1)
    faults.fail("*", "before", times=100_000)
    before = house.clock.monotonic()
    await house.meanwhile(tenant.stop(), 20.0)
    assert house.clock.monotonic() - before < 12
    with pytest.raises(StoreUnavailable):
        await faults.run("fetch", rest)

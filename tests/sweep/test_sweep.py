"""One fault at every place where it can happen.

A small day is lived once without faults, and its calls to the store are counted. Then it is lived
again for each of them, with that one call failing in one way, or with the process being stopped,
cancelled or killed just then. The invariant each time, at every look: each jid is in exactly one
of buffer, queue, schedule, private hash, inbox, retry, dead, done. After a clean stop no private
hash and no inbox holds anything. And no job is begun once more than it must be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from kiqpy import KiqError
from tests.faults import ANY, Faults, How
from tests.sweep.simulation import House, Tenant

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GOOD, LATER = [f"j{n}" for n in range(4)], "j4"
BAD = "j5"
ENDS = {**{jid: ["done"] for jid in (*GOOD, LATER)}, BAD: ["dead"]}
STARTS = Counter({**dict.fromkeys([*GOOD, LATER], 1), BAD: 2})
OPTIONS = {"poll_interval": 2.0, "suspicion": 10.0}


class Plan(Faults):
    """Something happens at the k-th call."""

    def __init__(self, k: int = 0, then: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._k, self._then = k, then

    def next_fault(self, verb: str) -> How | None:
        fault = super().next_fault(verb)
        if self.calls[ANY] == self._k:
            self._then()
        return fault


def enqueue(tenant: Tenant) -> None:
    for jid in GOOD[:2]:
        tenant.take(jid)
    tenant.take(BAD, "bad")
    tenant.take(LATER, in_s=3.0)
    for jid in GOOD[2:]:
        tenant.take(jid)


async def live(house: House, tenant: Tenant, plan: Plan, within_s: int = 60) -> None:
    """A look each half second, a heartbeat after it, until all is done."""
    for n in range(2 * within_s):
        await house.clock.advance(0.5)
        await house.look(tenant)
        await tenant.beat()
        if n % 4 == 3 and plan.pending:  # what was late arrives, about two seconds later
            await house.meanwhile(plan.release())
        if house.where() == ENDS and not tenant.buffered() and not plan.pending:
            return
    raise AssertionError(f"not done after {within_s} s: {dict(house.where())}")


async def calls_of_a_day() -> int:
    house, plan = House(), Plan()
    tenant = await house.app("host:1:aa", plan, **OPTIONS).begin()
    enqueue(tenant)
    await live(house, tenant, plan)
    await house.meanwhile(tenant.stop())
    assert house.starts == STARTS
    assert house.held() == []
    return plan.calls[ANY]


async def heir(house: House) -> None:
    """Another process finishes what there is."""
    plan = Plan()
    tenant = await house.app("host:2:bb", plan, **OPTIONS).begin()
    await live(house, tenant, plan)
    await house.meanwhile(tenant.stop())
    assert house.where() == ENDS


async def each_call(one: Callable[[int], object]) -> None:
    """`one(k)` for every k; what fails says for which."""
    calls = await calls_of_a_day()
    assert 30 <= calls <= 200, f"{calls} calls: this is no small day"
    for k in range(1, calls + 1):
        try:
            await one(k)  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"at call {k} of {calls}")
            raise


@pytest.mark.parametrize("how", ["before", "after", "late"])
async def test_a_call_fails(how: How) -> None:
    """No effect and no reply; an effect and no reply; no reply, and the effect much later."""

    async def one(k: int) -> None:
        house, plan = House(), Plan()
        plan.fail(ANY, how, call=k)
        tenant = await house.app("host:1:aa", plan, **OPTIONS).begin()
        enqueue(tenant)
        await live(house, tenant, plan)
        await house.meanwhile(tenant.stop())
        await house.meanwhile(plan.release())
        assert house.starts == STARTS
        assert house.held() == []
        house.check()

    await each_call(one)


@pytest.mark.parametrize("how", ["before", "after", "late"])
async def test_three_calls_in_a_row_fail(how: How) -> None:
    """The second try, and the third, meet what the first has left."""

    async def one(k: int) -> None:
        house, plan = House(), Plan()
        plan.fail(ANY, how, call=k, times=3)
        tenant = await house.app("host:1:aa", plan, **OPTIONS).begin()
        enqueue(tenant)
        await live(house, tenant, plan)
        await house.meanwhile(tenant.stop())
        assert house.starts == STARTS
        assert house.held() == []

    await each_call(one)


async def stopped_at(k: int, how: How | None, grace_s: float, fair: bool) -> None:
    """The process is stopped when it makes call `k`, which fails as told."""
    house, now = House(), asyncio.Event()
    plan = Plan(k, now.set)
    if how is not None:
        plan.fail(ANY, how, call=k)
    tenant = await house.app("host:1:aa", plan, **OPTIONS).begin()
    enqueue(tenant)

    async def day() -> None:
        await now.wait()
        await tenant.stop(grace_s)

    stopping = asyncio.ensure_future(day())
    for n in range(600):
        await house.clock.advance(0.1)
        if stopping.done():
            break
        if not now.is_set() and n % 5 == 4:
            await tenant.beat()
    else:
        raise AssertionError("it does not stop")
    await stopping
    await house.meanwhile(plan.release())  # what was under way arrives at last
    assert tenant.buffered() == []
    if how != "late":
        assert house.held() == []
    house.check()
    await heir(house)
    extra = house.starts - STARTS
    assert not extra if fair else max(extra.values(), default=0) <= 1


@pytest.mark.parametrize("how", [None, "before", "after", "late"])
async def test_it_is_stopped(how: How | None) -> None:
    """What runs comes to its end, what does not run is never begun, and all is settled."""
    await each_call(lambda k: stopped_at(k, how, 25.0, fair=True))


@pytest.mark.parametrize("how", [None, "before", "after"])
async def test_it_is_cancelled(how: How | None) -> None:
    """No grace: what runs is cancelled, goes back, and is begun once more."""
    await each_call(lambda k: stopped_at(k, how, 0.0, fair=False))


def bury(house: House, buffered: list[str]) -> None:
    """Set right what nobody could tell of the dead."""
    for jid in sorted(house.pushed - house.where().keys()):
        if jid in buffered:
            house.pushed.remove(jid)
        elif house.starts[jid] and jid != BAD:
            house.done[jid] += 1  # settled with the last call: nobody heard of it


@pytest.mark.parametrize("last", ["before", "after"])
async def test_it_dies(last: How) -> None:
    """From call `k` on nothing it does is seen. What was in its buffer dies with it; no more."""

    async def one(k: int) -> None:
        house, plan = House(), Plan(k)
        plan.fail(ANY, last, call=k)
        plan._then = lambda: plan.fail(ANY, "before", times=100_000)
        tenant = house.app("host:1:aa", plan, **OPTIONS)
        try:
            await tenant.start()
        except KiqError:
            return  # it never was
        tenant.engine = tenant._lifecycle.engine
        enqueue(tenant)
        for _ in range(60):
            await house.clock.advance(0.5)
            if plan.calls[ANY] >= k:
                break
            await tenant.beat()
        buffered = tenant.buffered()
        await house.meanwhile(tenant.stop(0.0))
        house.server.leases.pop("host:1:aa", None)  # its lease runs out
        house.troubles.clear()
        bury(house, buffered)
        house.check()
        await revive(house)
        extra = house.starts - STARTS
        assert max(extra.values(), default=0) <= 1

    async def revive(house: House) -> None:
        """Another process takes over, which it does after a while."""
        plan, ends = Plan(), {jid: ENDS[jid] for jid in house.pushed}
        tenant = await house.app("host:2:bb", plan, **OPTIONS).begin()
        for _ in range(120):
            await house.clock.advance(0.5)
            house.check()
            if house.where() == ends:
                break
        await house.meanwhile(tenant.stop())
        assert house.where() == ends

    await each_call(one)

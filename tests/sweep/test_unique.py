"""One fault in every call to the store, on a day of unique jobs.

At each look no lock is anybody's but that of a job which is there; at the end all are free but the
one of a job that waits: it took the lock which another's start had freed.
"""

from __future__ import annotations

import pytest

from kiqpy import Job
from tests.faults import ANY, Faults, How
from tests.sweep.simulation import House, Tenant

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OPTIONS = {"poll_interval": 2.0, "suspicion": 10.0}
ENDS = {"plain": ["done"], "opener": ["done"], "bad": ["dead"], "next": ["schedule"]}


def take(tenant: Tenant, jid: str, token: str, name: str = "good", **fields: object) -> None:
    in_s = 10_000.0 if jid == "next" else None
    tenant.house.pushed.add(jid)
    tenant.enqueue_nowait(
        Job(name, queue="sweep", jid=jid, retry=1 if name == "bad" else False, unique_for=500.0,
            unique_token=token, **fields),
        in_=in_s,
    )  # fmt: skip


def locks(house: House) -> dict[str, str]:
    held = {token: house.server.holder(token) for token in house.server.locks}
    return {token: jid for token, jid in held.items() if jid is not None}


def look(house: House) -> None:
    """Whoever has a lock is there, and is not done."""
    found = house.where()
    for token, jid in locks(house).items():
        assert found.get(jid, ["done"]) not in (["done"], ["dead"]), f"{token}: {jid} has ended"


async def live(house: House, tenant: Tenant, plan: Faults) -> None:
    take(tenant, "plain", "P")
    take(tenant, "opener", "O", unique_until="start")
    take(tenant, "bad", "B", "bad")
    for n in range(240):
        await house.clock.advance(0.25)
        look(house)
        if n % 2:
            await tenant.beat()
        if house.starts["opener"] and "next" not in house.pushed:
            take(tenant, "next", "O", unique_until="start")
        if n % 8 == 7 and plan.pending:  # what was late arrives, about two seconds later
            await house.meanwhile(plan.release())
        if house.where() == ENDS and not tenant.buffered() and not plan.pending:
            return
    raise AssertionError(f"not done after a minute: {dict(house.where())}, {locks(house)}")


async def day(plan: Faults) -> House:
    house = House()
    tenant = await house.app("host:1:aa", plan, **OPTIONS).begin()
    await live(house, tenant, plan)
    await house.meanwhile(tenant.stop())
    await house.meanwhile(plan.release())
    house.check()
    assert locks(house) == {"O": "next"}
    assert house.starts == {"plain": 1, "opener": 1, "bad": 2}
    return house


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", ["before", "after", "late"])
async def test_a_call_fails(how: How, times: int) -> None:
    """No effect and no reply; an effect and no reply; no reply, and the effect much later."""
    plan = Faults()
    await day(plan)
    calls = plan.calls[ANY]
    assert 20 <= calls <= 200, f"{calls} calls: this is no small day"
    for k in range(1, calls + 1):
        plan = Faults()
        plan.fail(ANY, how, call=k, times=times)
        try:
            await day(plan)
        except BaseException as error:
            error.add_note(f"at call {k} of {calls}")
            raise


async def test_it_dies_and_another_goes_on() -> None:
    """From call `k` on nothing that it does is seen; what it held is taken over with its locks."""
    plan = Faults()
    await day(plan)
    for k in range(1, plan.calls[ANY] + 1):
        try:
            await dies(k)
        except BaseException as error:
            error.add_note(f"at call {k}")
            raise


async def dies(k: int) -> None:
    house, plan = House(), Faults()
    plan.fail(ANY, "before", call=k, times=100_000)
    tenant = house.app("host:1:aa", plan, **OPTIONS, lease_ttl=20.0, heartbeat_interval=5.0)
    try:
        await tenant.start()
    except Exception:
        return  # it did not even begin
    tenant.engine = tenant._lifecycle.engine
    take(tenant, "plain", "P")
    take(tenant, "opener", "O", unique_until="start")
    take(tenant, "bad", "B", "bad")
    await house.clock.advance(6.0)
    house.pushed = set(house.where()) | set(house.done)
    other = await house.app("host:2:bb", Faults(), **OPTIONS).begin()
    for n in range(400):
        await house.clock.advance(0.25)
        if n % 4 == 0:
            await other.beat()
        at = {jid: places for jid, places in house.where().items() if jid in house.pushed}
        if all(places in (["done"], ["dead"]) for places in at.values()):
            break
    else:
        raise AssertionError(f"not done: {dict(house.where())}")
    assert locks(house) == {}
    await house.meanwhile(other.stop())
    await house.meanwhile(tenant.stop())

"""One fault at every call of the store in a small day of local jobs.

They begin in the process's memory, and their backups and verdicts are written behind them. Each
ends once, and is begun no more often than it must be; after a stop nothing is held.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kiqpy import current_job, worker
from tests.faults import ANY, Faults, How
from tests.sweep.simulation import House, Tenant

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HOWS: list[How] = ["before", "after", "late"]
OPTIONS: dict[str, Any] = {"poll_interval": 2.0, "suspicion": 10.0}


async def _work(seconds: float) -> None:
    house = House.now
    house.starts[current_job().jid] += 1
    await house.clock.sleep(seconds)


@worker(local=True)
async def before(seconds: float) -> None:
    await _work(seconds)


@worker(local=True, persist="alongside")
async def alongside(seconds: float) -> None:
    await _work(seconds)


@worker(local=True, persist="never")
async def never(seconds: float) -> None:
    await _work(seconds)


@worker(local=True, persist="alongside", retry=1, backoff=lambda *_: 2.0)
async def bad(seconds: float) -> None:
    await _work(seconds)
    raise ValueError("as always")


DAY = {
    "b0": (before, 0.0),
    "b1": (before, 1.0),
    "a0": (alongside, 0.0),
    "a1": (alongside, 1.0),
    "n0": (never, 0.0),
    "n1": (never, 1.0),
    "x0": (bad, 0.0),
    "x1": (bad, 1.0),
}
GOOD = sorted(jid for jid in DAY if not jid.startswith("x"))
ENDS = {**{jid: ["done"] for jid in GOOD}, "x0": ["dead"], "x1": ["dead"]}
STARTS = Counter({**dict.fromkeys(GOOD, 1), "x0": 2, "x1": 2})


async def begin(house: House, plan: Faults, ident: str = "host:1:aa") -> Tenant:
    workers = [before, alongside, never, bad]
    return await house.app(ident, plan, workers=workers, **OPTIONS).begin()


def enqueue(tenant: Tenant) -> None:
    for jid, (kind, seconds) in DAY.items():
        job = kind.new(seconds)
        job.payload["jid"] = jid
        tenant.house.pushed.add(jid)
        tenant.enqueue_nowait(job)


async def live(house: House, tenant: Tenant, plan: Faults) -> None:
    """A heartbeat each half second, until all is done."""
    for n in range(120):
        await house.clock.advance(0.5)
        await tenant.beat()
        if n % 4 == 3 and plan.pending:
            await house.meanwhile(plan.release())
        if house.where() == ENDS and not plan.pending:
            return
    raise AssertionError(f"not done after 60 s: {dict(house.where())}")


async def calls_of_a_day() -> int:
    house, plan = House(), Faults()
    tenant = await begin(house, plan)
    enqueue(tenant)
    await live(house, tenant, plan)
    await house.meanwhile(tenant.stop())
    assert house.starts == STARTS
    assert house.held() == []
    assert plan.calls["keep"] > 0, "nothing was backed up: were these local jobs?"
    return plan.calls[ANY]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", HOWS)
async def test_calls_fail(how: How, times: int) -> None:
    """No effect and no reply; an effect and no reply; no reply, and the effect much later."""
    calls = await calls_of_a_day()
    assert 20 <= calls <= 200
    for k in range(1, calls + 1):
        house, plan = House(), Faults()
        plan.fail(ANY, how, call=k, times=times)
        try:
            tenant = await begin(house, plan)
            enqueue(tenant)
            await live(house, tenant, plan)
            await house.meanwhile(tenant.stop())
            await house.meanwhile(plan.release())
            assert house.starts == STARTS
            assert house.held() == []
            house.check()
        except BaseException as error:
            error.add_note(f"at call {k} of {calls}")
            raise


@pytest.mark.parametrize("half_seconds", range(8))
async def test_it_stops_at_some_time(half_seconds: int) -> None:
    """Without any grace: what has not ended goes to another process, each job in one place."""
    house, plan = House(), Faults()
    tenant = await begin(house, plan)
    enqueue(tenant)
    for _ in range(half_seconds):
        await house.clock.advance(0.5)
        await tenant.beat()
    await house.meanwhile(tenant.stop(0.0))
    assert house.held() == []
    house.check()
    heir = await begin(house, Faults(), "host:2:bb")
    await live(house, heir, Faults())
    await house.meanwhile(heir.stop())
    assert house.where() == ENDS

"""What a claim says of its lane: a pure function of its bytes."""

from __future__ import annotations

from kiqpy._rules.lanes import lane_of, scheduled_at
from kiqpy.job import Claim
from kiqpy.store._backend import LaneClaim
from kiqpy.store.census import readable


def lane_claim(claim: Claim) -> LaneClaim | None:
    """A claim with its lane; None: it is in no lane, or unreadable."""
    job = readable(claim.raw)
    lane = None if job is None else lane_of(job, claim.queue)
    if job is None or lane is None:
        return None
    return LaneClaim(claim.delivery, lane.name, lane.jid, scheduled_at(job))

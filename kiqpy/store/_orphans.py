"""What becomes of the jobs that a dead process held: pure functions of values."""

from __future__ import annotations

from kiqpy._rules.backoff import Rand
from kiqpy._rules.decide import recover
from kiqpy._rules.portable import put_apart
from kiqpy.store import Rescued
from kiqpy.store._backend import Orphan
from kiqpy.store.census import readable

_GAP_S = 1.0  # between two jobs that may have killed their process
_MAX_SPREAD_S = 20.0  # between the first and the last of them: most are innocent


def orphan_of(delivery: int, raw: bytes, now: float, rand: Rand) -> Orphan:
    payload, poison = recover(raw, readable(raw), now, rand)
    return Orphan(delivery, payload, poison)


def keep_apart(orphans: dict[int, Orphan], queue: str, rand: Rand, before: int = 0) -> None:
    """Delay jobs whose process has died more than once, so that they run one after the other.

    One of them may be what kills the process, and the others must not be counted as killers too.
    The second time the oldest runs first, the third time the newest, so a job that ran before the
    culprit in one of them runs after it in the other. What Ruby's poller would lose goes to the
    dead set. `before`: how many jobs of the process came in earlier pages; these come after them.
    """
    for count in (2, 3):
        ids = [n for n, orphan in orphans.items() if _count(orphan) == count and not orphan.poison]
        gap_s = min(_GAP_S, _MAX_SPREAD_S / max(1, before + len(ids)))
        for place, n in enumerate(sorted(ids, reverse=count == 3), before):
            if place > 0:
                payload = put_apart(orphans[n].payload, queue, rand)
                orphans[n] = (
                    orphans[n]._replace(poison=True)
                    if payload is None
                    else orphans[n]._replace(payload=payload, in_s=place * gap_s)
                )


def rescued_of(orphan: Orphan, queue: str) -> Rescued:
    job = readable(orphan.payload)
    jid, count = (job.jid, job.recovered) if job else ("", 0)
    return Rescued(jid, queue, count, orphan.poison)


def _count(orphan: Orphan) -> int:
    job = readable(orphan.payload)
    return job.recovered if job else 0

"""What becomes of a frame's results: receipts for those who wait, events for those who hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, cast

from kiqpy._intake.buffer import Pending
from kiqpy.errors import DecodeError, StoreRefused
from kiqpy.event import Event, JobEnqueued, JobRefused
from kiqpy.job import decode
from kiqpy.receipt import Receipt, State
from kiqpy.store import OutgoingJob, Pushed

_STORED: Final = frozenset((Pushed("queued"), Pushed("scheduled")))


class PushResults(NamedTuple):
    """Whom to tell. `hears(kind)` is asked before anything is decoded for an event."""

    tell: Callable[[Event], None]
    hears: Callable[[type[Event]], object]

    def give(self, sent: Sequence[Pending], results: Sequence[Pushed]) -> None:
        """Answer who waits for what was sent, in order; tell of jobs that nobody waits for."""
        at = 0
        for pending in sent:
            part = results[at : at + len(pending.parcels)]
            at += len(part)
            if not _STORED.issuperset(part):
                self._answer(pending, part)
            elif pending.waits():
                pairs = zip(pending.parcels, part, strict=True)
                pending.tell([Receipt(parcel.jid, cast("State", r.state)) for parcel, r in pairs])
        if self.hears(JobEnqueued):
            parcels = (parcel for pending in sent for parcel in pending.parcels)
            for parcel, result in zip(parcels, results, strict=True):
                if result.state in ("queued", "scheduled"):
                    self._tell_enqueued(parcel, result.state)

    def _tell_enqueued(self, parcel: OutgoingJob, state: str) -> None:
        with suppress(DecodeError):  # a job without a class name can be sent, but not shown
            self.tell(JobEnqueued(decode(parcel.payload), state))

    def _answer(self, pending: Pending, results: Sequence[Pushed]) -> None:
        refused = next((result for result in results if result.state == "refused"), None)
        if refused is None:
            pending.tell([_receipt(p, r) for p, r in zip(pending.parcels, results, strict=True)])
        elif pending.waiting is not None and pending.waits():
            pending.waiting.set_exception(StoreRefused(f"not enqueued: {refused.detail}"))
        else:  # nobody waits, but somebody must hear of it
            for parcel, result in zip(pending.parcels, results, strict=True):
                if result.state == "refused":
                    queue, jid, payload = parcel[:3]
                    self.tell(JobRefused(jid, queue, payload, result.detail))


def buffered(pending: Pending) -> list[Receipt]:
    """What is told while the store is away."""
    return [Receipt(parcel.jid, "buffered") for parcel in pending.parcels]


def _receipt(parcel: OutgoingJob, result: Pushed) -> Receipt:
    if result.state == "duplicate":
        return Receipt(result.detail, "duplicate")
    return Receipt(parcel.jid, "scheduled" if result.state == "scheduled" else "queued")

"""A frame's results: receipts for the pushes that wait, events for whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, cast

from kiqpy._intake.buffer import Pending
from kiqpy.errors import DecodeError, StoreRefused
from kiqpy.event import Event, JobEnqueued, JobRefused
from kiqpy.job import decode
from kiqpy.receipt import Receipt, ReceiptState
from kiqpy.store import OutgoingJob, Pushed

_STORED: Final = frozenset((Pushed("queued"), Pushed("scheduled")))


class PushResults(NamedTuple):
    """Reports results. `has_listeners(kind)` is asked before a job is decoded for an event."""

    emit: Callable[[Event], None]
    has_listeners: Callable[[type[Event]], object]

    def report(self, sent: Sequence[Pending], results: Sequence[Pushed]) -> None:
        """Resolve each waiting push, in order; emit JobRefused for jobs pushed without waiting."""
        start = 0
        for pending in sent:
            part = results[start : start + len(pending.outgoing)]
            start += len(part)
            if not _STORED.issuperset(part):
                self._resolve(pending, part)
            elif pending.waits():
                pairs = zip(pending.outgoing, part, strict=True)
                pending.answer(
                    [Receipt(each.jid, cast("ReceiptState", r.state)) for each, r in pairs]
                )
        if self.has_listeners(JobEnqueued):
            outgoing = (each for pending in sent for each in pending.outgoing)
            for each, result in zip(outgoing, results, strict=True):
                if result.state in ("queued", "scheduled"):
                    self._emit_enqueued(each, result.state)

    def _emit_enqueued(self, outgoing: OutgoingJob, state: str) -> None:
        with suppress(DecodeError):  # a job without a class name can be sent, but not shown
            self.emit(JobEnqueued(decode(outgoing.payload), state))

    def _resolve(self, pending: Pending, results: Sequence[Pushed]) -> None:
        """For a push of which not all jobs were stored."""
        pairs = zip(pending.outgoing, results, strict=True)
        if pending.waits():
            pending.answer([_answer(each, result) for each, result in pairs])
            return
        for each, result in pairs:
            if result.state == "refused":
                self.emit(JobRefused(each.jid, each.queue, each.payload, result.detail))


def buffered(pending: Pending) -> list[Receipt]:
    """What a push returns while the store is away."""
    return [Receipt(each.jid, "buffered") for each in pending.outgoing]


def _answer(outgoing: OutgoingJob, result: Pushed) -> Receipt | StoreRefused:
    if result.state == "refused":
        return StoreRefused(f"job {outgoing.jid} is not enqueued: {result.detail}")
    if result.state == "duplicate":
        return Receipt(result.detail, "duplicate")
    return Receipt(outgoing.jid, "scheduled" if result.state == "scheduled" else "queued")

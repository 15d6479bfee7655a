"""The results of a frame reach the right receipts and events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kiqpy._intake.buffer import Pending
from kiqpy._intake.results import PushResults
from kiqpy._reporting.bus import Bus
from kiqpy.event import Event, JobEnqueued
from kiqpy.store import OutgoingJob, Pushed


def outgoing(n: int, **fields: Any) -> OutgoingJob:
    payload = {"class": "noop", "args": [n], "queue": "q", "jid": str(n), **fields}
    return OutgoingJob("q", str(n), json.dumps(payload).encode())


RESULTS = [Pushed("queued"), Pushed("scheduled"), Pushed("duplicate", "other"), Pushed("refused")]
SENT = [
    Pending([outgoing(0), outgoing(1)], 9, 0.0),
    Pending([outgoing(2)], 9, 0.0),
    Pending([outgoing(3)], 9, 0.0),
]


def test_what_is_durable_is_told_in_order_and_nothing_else() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("job.enqueued", events.append)
    PushResults(bus.emit, bus.handlers).report(SENT, RESULTS)
    told = [(e.job.jid, e.job.args, e.state) for e in events if isinstance(e, JobEnqueued)]
    assert told == [("0", [0], "queued"), ("1", [1], "scheduled")]
    assert len(events) == 2


def test_if_nobody_hears_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("kiqpy._intake.results.decode", decoded.append)
    bus, events = Bus(), list[Event]()
    bus.attach("job.refused", events.append)
    PushResults(bus.emit, bus.handlers).report(SENT, RESULTS)
    assert decoded == []
    assert [event.name for event in events] == ["job.refused"]


def test_a_job_that_cannot_be_shown_stops_nobody() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("*", events.append)
    sent = [Pending([outgoing(0, **{"class": ""}), outgoing(1)], 9, 0.0)]
    PushResults(bus.emit, bus.handlers).report(sent, [Pushed("queued"), Pushed("queued")])
    assert [e.job.jid for e in events if isinstance(e, JobEnqueued)] == ["1"]

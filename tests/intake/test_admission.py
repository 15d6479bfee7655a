"""What becomes of a job between `enqueue` and the client's buffer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiqpy import ArgumentError, ConfigError, Job
from kiqpy._intake.admission import Admission, AdmissionSettings, admit, compose, draft
from kiqpy.middleware import Next, compile_client
from kiqpy.outcome import Lock
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob
from kiqpy.testing import FakeClock

NOW = 1_700_000_000.0


def no_jid() -> str:
    raise AssertionError("the job has one")


def composed(
    job: Job, new_jid: Callable[[], str] = lambda: "new", now: float = NOW, **when: Any
) -> OutgoingJob:
    return compose(job, admit(job, **when), now, AdmissionSettings(), new_jid)


def payload(outgoing: OutgoingJob) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(outgoing.payload)
    return read


# -- the call


def test_the_calls_time_goes_before_the_jobs_own() -> None:
    job = Job("noop", [1], in_s=5, at_s=NOW + 1)
    assert admit(job) == (5, NOW + 1)
    assert admit(job, in_=timedelta(minutes=2)) == (120.0, None)
    assert admit(job, at=NOW + 3) == (None, NOW + 3)
    assert admit(job, at=datetime(2030, 1, 1, tzinfo=UTC)) == (None, 1_893_456_000.0)
    assert composed(job).in_s == 5
    assert composed(job).at_s is None


def test_what_is_no_job_or_no_time_is_refused() -> None:
    with pytest.raises(ArgumentError, match="takes a job, not 7"):
        admit(7)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="give in_ or at, not both"):
        admit(Job("noop"), in_=1, at=NOW)
    with pytest.raises(ConfigError, match="in_='soon'"):
        admit(Job("noop"), in_="soon")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no time zone"):
        admit(Job("noop"), at=datetime(2030, 1, 1))  # noqa: DTZ001


# -- the payload


def test_what_travels_is_sidekiqs_payload() -> None:
    settings = AdmissionSettings(retry=7)
    job = Job("noop", [1], tags=["a"])
    outgoing = compose(job, (None, None), NOW, settings, lambda: "new")
    assert outgoing[:2] == ("default", "new")
    assert payload(outgoing) == {
        "class": "noop", "args": [1], "queue": "default", "retry": 7, "tags": ["a"],
        "jid": "new", "created_at": NOW, "enqueued_at": NOW,
    }  # fmt: skip
    bare = Job.from_payload({"class": "X", "args": []})
    assert payload(compose(bare, (None, None), NOW, settings, lambda: "new"))["retry"] == 7


def test_what_the_job_says_itself_stays() -> None:
    job = Job("noop", [1], jid="mine", retry=3, created_at=1.0, custom={"a": 1})
    said = payload(composed(job, no_jid))
    assert (said["jid"], said["retry"], said["created_at"]) == ("mine", 3, 1.0)
    assert said["custom"] == {"a": 1}


def test_a_postponed_job_is_not_marked_as_enqueued() -> None:
    for when in ({"in_": 5}, {"at": NOW + 5}):
        assert "enqueued_at" not in payload(composed(Job("noop"), **when))


def test_an_instant_in_the_past_means_now() -> None:
    job = Job("noop", [1])
    for due in ((None, NOW - 1), (None, NOW), (0.0, None), (-1.0, None), (-1.0, NOW + 9)):
        outgoing = compose(job, due, NOW, AdmissionSettings(), lambda: "new")
        assert (outgoing.in_s, outgoing.at_s) == (None, None)
        assert "enqueued_at" in payload(outgoing)


def test_expires_in_counts_from_when_the_job_is_due() -> None:
    def expires(**when: float) -> float:
        stamp: float = payload(composed(Job("noop", [], expires_in=100), **when))["expires_at"]
        return stamp

    assert expires() == NOW + 100
    assert expires(in_=50) == NOW + 150
    assert expires(at=NOW + 70) == NOW + 170
    assert expires(at=NOW - 70) == NOW + 100


def test_a_unique_job_takes_its_lock_along() -> None:
    outgoing = composed(Job("noop", [1], unique_for=60), in_=5)
    said = payload(outgoing)
    assert outgoing.lock == Lock(said["unique_token"], 60.0)
    assert said["unlocks_at"] == NOW + 65
    assert composed(Job("noop", [1])).lock is None


def test_a_payload_that_is_too_long_is_refused() -> None:
    job = Job("noop", ["x" * 200])
    with pytest.raises(ArgumentError, match=r"more than max_payload=200: pass a reference"):
        compose(job, (None, None), NOW, AdmissionSettings(max_payload=200), lambda: "new")


def test_arguments_and_queue_are_checked_as_they_are_now() -> None:
    job = Job("noop", [1])
    job.args.append({1, 2})
    with pytest.raises(ArgumentError, match="argument number 2 is a set"):
        composed(job)
    with pytest.raises(ConfigError, match="queue name 'a b'"):
        composed(Job("noop", [1], queue="a b"))


def test_a_job_can_be_enqueued_twice_and_is_not_changed() -> None:
    job, jids = Job("noop", [1]), iter(("one", "other"))
    before = dict(job.payload)
    assert [composed(job, jids.__next__).jid for _ in range(2)] == ["one", "other"]
    assert job.payload == before


# -- a row, for a chunk or a file


@pytest.mark.parametrize("lock", [None, Lock("t", 5.0), Lock("t", 5.0, owned=False)])
def test_a_row_is_plain_and_becomes_the_same_job(lock: Lock | None) -> None:
    outgoing = OutgoingJob("q", "1", b"{}", 5.0, None, lock)
    row = outgoing.to_row()
    assert {type(part) for part in row} <= {str, bytes, float, type(None), tuple}
    again = OutgoingJob.from_row(list(row))
    assert again == outgoing
    assert type(again.lock) is type(lock)


# -- the middleware


def admission(*chain: Any) -> Admission:
    return Admission(AdmissionSettings(), FakeClock(NOW), compile_client(chain))


def test_a_draft_is_a_copy_with_its_jid_and_due_time() -> None:
    job = Job("noop", [1], in_s=5)
    copy = draft(job, (None, NOW), lambda: "new")
    copy.args.append(2)
    copy.payload["x"] = 1
    assert (copy.jid, copy.in_s, copy.at_s) == ("new", None, NOW)
    assert job.payload == {"class": "noop", "args": [1], "queue": "default"}
    assert draft(Job("noop", jid="mine"), (None, None), no_jid).jid == "mine"


@pytest.mark.anyio
async def test_all_ways_in_take_the_same_steps() -> None:
    async def odd_later_in_other(job: Job, call_next: Next) -> None:
        job.payload["queue"] = "other"
        job.in_s = 7
        if job.args[0] % 2:
            await call_next(job)

    for chain in ((), (odd_later_in_other,)):
        jobs = [Job("noop", [n], jid=str(n)) for n in range(4)]
        it = admission(*chain)
        each = [await it(job) for job in jobs]
        assert await it.many(jobs) == each
        assert [it.at_once(job) for job in jobs] == each
        if not chain:
            assert [type(one) for one in each] == [OutgoingJob] * 4
            continue
        assert [type(one) for one in each] == [Receipt, OutgoingJob] * 2
        assert each[0] == Receipt("0", "halted")
        assert isinstance(each[1], OutgoingJob)
        assert (each[1].queue, each[1].in_s) == ("other", 7)

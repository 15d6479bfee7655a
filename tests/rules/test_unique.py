"""Unique jobs: equal tokens for equal jobs; owner, time and end of a lock."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiqpy import ArgumentError, ConfigError, Job, Worker, worker
from kiqpy._declare.checks import MAX_DELAY_S
from kiqpy._rules.unique import any_lock, lock_for, lock_of, lock_until_start, token
from kiqpy.outcome import Lock

NOW = 1_700_000_000.0
KIQS = "0123456789abcdef0123456789abcdef01234567"
EXQS = "c2hhMjU2IG9mIGEgam9iIGFuZCBpdHMgYXJndW1lbnRzIQ=="


@worker(unique_for=60)
def plain(n: int, template: str = "plain", *rest: int) -> None: ...


@worker(unique_for=60)
def named(n: int, *, lang: str = "en", draft: bool = False) -> None: ...


@worker(unique_for=60)
def open_ended(n: int, **fields: Any) -> None: ...


class Export(Worker, unique_for=60):
    def perform(self, n: int, kind: str = "csv") -> None: ...


class Import(Worker, unique_for=60):
    def perform(self, n: int, kind: str = "csv") -> None: ...


def of(job: Job) -> str:
    found = job.payload["unique_token"]
    assert isinstance(found, str)
    return found


class TestTokens:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (plain.new(1), plain.new(1, "plain")),
            (plain.new(1), plain.new(n=1)),
            (plain.new(1), plain.new(template="plain", n=1)),
            (named.new(1), named.new(1, lang="en")),
            (named.new(1, lang="de", draft=True), named.new(n=1, draft=True, lang="de")),
            (
                open_ended.new(1, b=2, a={"y": 1, "x": 2}),
                open_ended.new(1, a={"x": 2, "y": 1}, b=2),
            ),
            (Export.new(1), Export.new(1, kind="csv")),
            (Export.new(1), Export.using(unique_for=5, retry=3).new(1)),
        ],
    )
    def test_equal_however_the_arguments_were_given(self, one: Job, other: Job) -> None:
        assert of(one) == of(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (plain.new(1), plain.new(2)),
            (plain.new(1), plain.new(1, "plain", 3)),
            (named.new(1), named.new(1, lang="de")),
            (named.new(1, lang="de"), named.new(1, draft=True)),
            (open_ended.new(1), open_ended.new(1, a=1)),
            (plain.new(1), plain.new(True)),
            (Export.new(1), Import.new(1)),
            (Export.new(1), Export.using(queue="other").new(1)),
        ],
    )
    def test_different_for_other_values_classes_and_queues(self, one: Job, other: Job) -> None:
        assert of(one) != of(other)

    def test_unique_by_takes_the_place_of_the_arguments(self) -> None:
        @worker(unique_for=60, unique_by=lambda user, _text: user)
        def note(user: int, text: str) -> None: ...

        assert of(note.new(1, "a")) == of(note.new(1, "b"))
        assert of(note.new(1, "a")) != of(note.new(2, "a"))

    def test_unique_by_gets_what_perform_gets(self) -> None:
        heard: list[Any] = []

        def key(n: int, template: str, *rest: int, **fields: Any) -> int:
            heard.append((n, template, rest, fields))
            return n

        @worker(unique_for=60, unique_by=key)
        def note(n: int, template: str = "plain", *, lang: str = "en") -> None: ...

        assert of(note.new(n=1)) == of(note.new(1, "x", lang="de"))
        assert heard == [(1, "plain", (), {"lang": "en"}), (1, "x", (), {"lang": "de"})]

    @pytest.mark.parametrize("answer", [object(), {1, 2}, float("nan"), b"x"])
    def test_unique_by_must_answer_a_key(self, answer: object) -> None:
        @worker(unique_for=60, unique_by=lambda: answer)
        def odd() -> None: ...

        with pytest.raises(ArgumentError, match=r"odd: unique_by answered .* no key"):
            odd.new()

    def test_unique_by_may_not_be_async(self) -> None:
        async def key() -> int:
            return 1

        with pytest.raises(ConfigError, match="plain function"):
            worker(name="w", unique_for=60, unique_by=key)(lambda: None)

    def test_what_they_are_equal_across(self) -> None:
        """Two queues, or two workers, with one key: `unique_across` says whether they are alike."""
        one = Export.using(unique_across="class")
        assert of(one.new(1)) == of(Export.using(unique_across="class", queue="other").new(1))
        assert of(one.new(1)) != of(Import.using(unique_across="class").new(1))
        everybody = Export.using(unique_across="all").new(1)
        assert of(everybody) == of(Import.using(unique_across="all", queue="other").new(1))
        assert of(everybody) != of(Import.using(unique_across="all").new(2))
        assert "unique_across" not in everybody.payload

    @pytest.mark.parametrize(
        ("across", "text"),
        [
            ("queue", '["plain","default",[1,"plain"]]'),
            ("class", '["plain",[1,"plain"]]'),
            ("all", '[[1,"plain"]]'),
        ],
    )
    def test_their_texts_are_documented(self, across: Any, text: str) -> None:
        expected = hashlib.sha256(text.encode()).hexdigest()
        assert of(plain.using(unique_across=across).new(1)) == expected
        by_hand = Job("plain", [1, "plain"], unique_for=60, unique_across=across)
        lock_for(by_hand.payload, NOW, 0.0)
        assert of(by_hand) == expected
        assert "unique_across" not in by_hand.payload
        declared = Job("plain", [1], unique_for=60, unique_across=across)
        assert plain.spec.declared(declared)["unique_token"] == expected

    def test_an_unknown_reach_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="unique_across='world'"):
            worker(unique_for=60, unique_across="world")  # type: ignore[call-overload]
        with pytest.raises(ConfigError, match="unique_across has no effect without unique_for"):
            worker(unique_across="all")

    def test_they_are_sha_256_so_that_kiqs_are_told_apart(self) -> None:
        assert of(plain.new(1)) == token("plain", "default", [1, "plain"])
        text = '["plain","default",[1,"plain"]]'
        assert of(plain.new(1)) == hashlib.sha256(text.encode()).hexdigest()

    def test_a_job_without_a_worker_has_the_token_of_its_arguments(self) -> None:
        job = Job("plain", [1, "plain"], unique_for=60)
        lock_for(job.payload, NOW, 0.0)
        assert of(job) == of(plain.new(1))


class TestOfANewJob:
    def lock(self, in_s: float = 0.0, **fields: Any) -> tuple[Lock | None, dict[str, Any]]:
        payload = {"class": "A", "args": [1], "queue": "q", **fields}
        return lock_for(payload, NOW, in_s), payload

    def test_it_is_held_for_so_long_from_when_the_job_is_due(self) -> None:
        lock, payload = self.lock(in_s=600.0, unique_for=60)
        assert lock == Lock(token("A", "q", [1]), 60.0)
        assert payload["unique_token"] == lock.token
        assert payload["unlocks_at"] == NOW + 660.0

    def test_a_token_of_its_own_is_kept(self) -> None:
        lock, payload = self.lock(unique_for=60, unique_token=EXQS)
        assert (lock, payload["unique_token"]) == (Lock(EXQS, 60.0), EXQS)

    @pytest.mark.parametrize("off", [None, False])
    def test_sidekiqs_way_to_say_no(self, off: Any) -> None:
        lock, payload = self.lock(unique_for=off)
        assert lock is None
        assert "unique_token" not in payload

    @pytest.mark.parametrize("junk", ["5m", True, 0, -1, float("inf"), 1e300, [], 10**400])
    def test_what_is_no_time_is_refused_and_not_ignored(self, junk: Any) -> None:
        with pytest.raises(ArgumentError, match=r"unique_for=.*seconds"):
            self.lock(unique_for=junk)

    @pytest.mark.parametrize("bad", [float("inf"), 1e12, 0, -1])
    def test_a_worker_is_refused_when_it_is_declared(self, bad: float) -> None:
        with pytest.raises(ConfigError, match="unique_for"):
            worker(unique_for=bad)

    def test_the_longest_that_is_allowed_is_held(self) -> None:
        longest = worker(name="w", unique_for=MAX_DELAY_S)(lambda: None)
        assert longest.new().payload["unique_for"] == MAX_DELAY_S
        lock, _ = self.lock(unique_for=MAX_DELAY_S)
        assert lock is not None
        assert lock.ttl_s == MAX_DELAY_S

    @pytest.mark.parametrize("until", ["success", "start", "expiry"])
    def test_what_travels(self, until: Any) -> None:
        job = worker(name="w", unique_for=60, unique_until=until)(lambda: None).new()
        assert (job.payload["unique_for"], job.payload["unique_until"]) == (60.0, until)

    def test_using_makes_one_job_unique_or_not(self) -> None:
        assert "unique_token" not in plain.using(unique_for=None).new(1).payload
        assert "unique_until" not in plain.using(unique_for=None).new(1).payload
        assert plain.using(unique_until="start").new(1).payload["unique_until"] == "start"


def ours(**fields: Any) -> dict[str, Any]:
    return {"jid": "j", "unique_token": "T" * 64, "unique_for": 60.0, **fields}


def exqs(**fields: Any) -> dict[str, Any]:
    return {"jid": "j", "unique_token": EXQS, "unique_for": 60, "unlocks_at": NOW, **fields}


def kiqs(**fields: Any) -> dict[str, Any]:
    """`unique_for` in ms; `unique_until` "start" or absent; `unlocks_at` in seconds."""
    held = {"jid": "j", "unique_token": KIQS, "unique_for": 60_000, "unlocks_at": NOW + 60}
    return held | fields


class TestWhatFreesIt:
    @pytest.mark.parametrize("make", [ours, exqs])
    def test_ours_and_exqs_are_their_jobs(self, make: Any) -> None:
        name = make()["unique_token"]
        for until in ("success", None):
            payload = make(unique_until=until)
            assert lock_of(payload, NOW + 1e6) == Lock(name, 60.0)
            assert lock_until_start(payload) is None
        start = make(unique_until="start", retry_count=3)
        assert lock_of(start) == lock_until_start(start) == Lock(name, 60.0)
        expiry = make(unique_until="expiry")
        assert lock_of(expiry) is lock_until_start(expiry) is None
        assert any_lock(expiry) == Lock(name, 60.0)

    def test_kiqs_is_nobodys_and_never_extended(self) -> None:
        lock = Lock(KIQS, 0.0, owned=False)
        assert lock_of(kiqs(), NOW) == any_lock(kiqs()) == lock
        assert lock_until_start(kiqs(), NOW) is None

    def test_kiqs_is_no_more_when_its_time_is_over(self) -> None:
        """Another job may have it by then, and it would not be known."""
        assert lock_of(kiqs(), NOW + 60.0) is None
        assert lock_until_start(kiqs(unique_until="start"), NOW + 60.0) is None

    def test_kiqs_until_start_is_freed_at_the_first_start_only(self) -> None:
        """Kiq frees it at each: a retry then frees the lock of the next job."""
        first, retried = kiqs(unique_until="start"), kiqs(unique_until="start", retry_count=1)
        assert lock_until_start(first, NOW) == Lock(KIQS, 0.0, owned=False)
        assert lock_until_start(retried, NOW) is None
        assert lock_of(first, NOW) is lock_of(retried, NOW) is None

    def test_a_payload_that_names_another_until_is_not_kiqs(self) -> None:
        """It never writes "success" or null; who does has its jid in the lock."""
        for until in ("success", None):
            assert lock_of(kiqs(unique_until=until)) == Lock(KIQS, 60_000.0)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.sampled_from(
                ["unique_token", "unique_for", "unique_until", "unlocks_at", "retry_count"]
            ),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
            | st.sampled_from([KIQS, EXQS, "start", "success", "expiry", 10**400])
            | st.lists(st.integers(), max_size=2),
        )
    )  # fmt: skip
    def test_whatever_a_payload_holds(self, fields: dict[str, Any]) -> None:
        for lock in (lock_of(fields, NOW), lock_until_start(fields, NOW), any_lock(fields)):
            assert lock is None or (lock.token == fields["unique_token"] and lock.ttl_s >= 0)

    def test_it_comes_back_from_the_wire_as_it_left(self) -> None:
        job = plain.new(1)
        lock = lock_for(job.payload, NOW, 5.0)
        assert lock_of(json.loads(json.dumps(job.payload)), NOW) == lock

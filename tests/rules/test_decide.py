"""What an outcome means for its job: formulas, limits, fields, and never an exception."""

from __future__ import annotations

import asyncio
import base64
import json
import linecache
import math
import sys
import zlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiqpy._payload.json import split
from kiqpy._rules import decide as policy
from kiqpy._rules.backoff import check_backoff, class_name, default_retries, message, timeout_of
from kiqpy._rules.decide import Rules, decide, recover
from kiqpy._rules.stack import MAX_FRAMES
from kiqpy.errors import ConfigError
from kiqpy.job import Claim, Job, decode
from kiqpy.outcome import (
    RELEASED,
    SUCCESS,
    Aborted,
    Bury,
    Cancelled,
    Defer,
    Discard,
    Done,
    ExtendLock,
    Failure,
    FreeLock,
    Kill,
    Lock,
    Outcome,
    Release,
    Retry,
    Snooze,
    Snoozed,
    Verdict,
)

NOW = 1_700_000_000.5
HOUR_S = 3600.0
PLAIN = Rules()
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def no_luck() -> float:
    return 0.0


def best_luck() -> float:
    return math.nextafter(1.0, 0.0)


def claim_of(**fields: Any) -> Claim:
    body = {"class": "Work", "args": [1], "jid": "j", "queue": "q", **fields}
    return Claim("q", 7, json.dumps(body).encode())


def decided(outcome: Outcome, rules: Rules = PLAIN, **fields: Any) -> Verdict:
    claim = claim_of(**fields)
    return decide(claim, decode(claim.raw), outcome, rules, NOW, no_luck)


def failed(rules: Rules = PLAIN, **fields: Any) -> Verdict:
    return decided(Failure(ValueError("no")), rules, **fields)


def delays(name: str, count: int) -> tuple[float, float]:
    """The shortest and the longest delay before the next run, after `count` retries."""
    claim = claim_of(retry=10_000, **({"retry_count": count - 1} if count else {}))
    found: list[float] = []
    for luck in (no_luck, best_luck):
        verdict = decide(
            claim, decode(claim.raw), Failure(ValueError()), Rules(backoff=name), NOW, luck
        )
        assert isinstance(verdict, Retry)
        found.append(verdict.in_s)
    return found[0], found[1]


class TestBackoff:
    @pytest.mark.parametrize("n", [0, 1, 2, 5, 24])
    def test_sidekiq(self, n: int) -> None:
        assert delays("sidekiq", n) == (n**4 + 15, n**4 + 15 + 9 * (n + 1))

    @pytest.mark.parametrize(
        ("n", "least", "most"),
        [(0, 17, 46), (1, 19, 48), (2, 35, 64), (3, 101, 130), (4, 277, 306),
         (24, 331817, 331846)],
    )  # fmt: skip
    def test_kiq(self, n: int, least: float, most: float) -> None:
        assert delays("kiq", n) == (least, most)

    @pytest.mark.parametrize("n", [0, 1, 2, 24])
    def test_exq_counts_after_the_failure(self, n: int) -> None:
        c = n + 1
        assert delays("exq", n) == (c**4 + 15, c**4 + 15 + 30 * (c + 1))

    def test_toniq(self) -> None:
        curve = [delays("toniq", n) for n in range(5)]
        assert curve == [(s, s) for s in (0.25, 4.0, 20.25, 64.0, 156.25)]

    def test_queuetopia(self) -> None:
        curve = [delays("queuetopia", n)[0] for n in (0, 1, 2, 3, 4, 16, 17, 5000)]
        assert curve == [2.0, 3.0, 5.0, 9.0, 17.0, 65_537.0, 86_400.0, 86_400.0]

    def test_flat_ones(self) -> None:
        assert delays("constant", 9) == (15.0, 15.0)
        assert delays("immediate", 9) == (0.0, 0.0)

    def test_a_callable_hears_all(self) -> None:
        heard: list[tuple[int, str, str]] = []

        def curve(count: int, error: BaseException, job: Job) -> float:
            heard.append((count, str(error), job.jid))
            return 7

        verdict = failed(Rules(backoff=curve), retry_count=2)
        assert isinstance(verdict, Retry)
        assert verdict.in_s == 7.0
        assert heard == [(3, "no", "j")]

    @pytest.mark.parametrize("answer", [Discard, Discard("enough")])
    def test_a_callable_may_discard(self, answer: Any) -> None:
        assert failed(Rules(backoff=lambda *_: answer)) == Done(7, failed=True)

    @pytest.mark.parametrize("answer", [Kill, Kill()])
    def test_a_callable_may_kill(self, answer: Any) -> None:
        assert isinstance(failed(Rules(backoff=lambda *_: answer)), Bury)

    @pytest.mark.parametrize("answer", ["soon", None, [], object()])
    def test_junk_means_the_default(self, answer: Any) -> None:
        verdict = failed(Rules(backoff=lambda *_: answer))
        assert isinstance(verdict, Retry)
        assert verdict.in_s == 15.0

    @pytest.mark.parametrize(
        "error", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
    )
    def test_one_that_raises_means_the_default(self, error: type[BaseException]) -> None:
        """SystemExit ended the process: it was raised where the job is settled."""

        def broken(*_: object) -> float:
            raise error("mine")

        verdict = failed(Rules(backoff=broken))
        assert isinstance(verdict, Retry)
        assert (verdict.in_s, verdict.trouble) == (15.0, f"{error.__name__}: mine")

    def test_a_timedelta_is_a_delay(self) -> None:
        verdict = failed(Rules(backoff=lambda *_: timedelta(minutes=2)))
        assert isinstance(verdict, Retry)
        assert (verdict.in_s, verdict.trouble) == (120.0, "")

    def test_using_counts_more_than_the_worker(self) -> None:
        verdict = failed(Rules(backoff="immediate"), kiq={"backoff": "constant"})
        assert isinstance(verdict, Retry)
        assert (verdict.in_s, verdict.trouble) == (15.0, "")

    @pytest.mark.parametrize("own", [5, [], {}, "sidekick", True, {"backoff": [1]}])
    def test_junk_from_using_means_the_default(self, own: Any) -> None:
        verdict = failed(Rules(backoff="sidekiq"), kiq={"backoff": own})
        assert isinstance(verdict, Retry)
        assert verdict.in_s == 15.0

    def test_an_async_one_is_refused(self) -> None:
        async def curve(*_: object) -> float:
            return 1.0

        class Curve:
            async def __call__(self, *_: object) -> float:
                return 1.0

        for bad in (curve, Curve()):
            with pytest.raises(ConfigError, match="plain function"):
                check_backoff(bad)

    @pytest.mark.parametrize("answer", [-5, math.nan, math.inf, -math.inf, 1e300, 10**30])
    def test_a_delay_is_finite_and_not_negative(self, answer: Any) -> None:
        verdict = failed(Rules(backoff=lambda *_: answer))
        assert isinstance(verdict, Retry)
        assert 0.0 <= verdict.in_s < 1e10

    def test_names_are_checked(self) -> None:
        for good in ("sidekiq", "kiq", "exq", "toniq", "queuetopia", "constant", "immediate"):
            check_backoff(good)
        check_backoff(lambda *_: 1.0)
        for bad in ("sidekick", 5, None):
            with pytest.raises(ConfigError, match="sidekiq"):
                check_backoff(bad)


class TestLimits:
    @pytest.mark.parametrize(
        ("retry", "count", "kind"),
        [
            (True, None, Retry), (True, 23, Retry), (True, 24, Bury),
            (3, None, Retry), (3, 1, Retry), (3, 2, Bury),
            (0, None, Bury), (False, None, Done),
            (None, 23, Retry), (None, 24, Bury), ("yes", 23, Retry), (-1, None, Bury),
        ],
    )  # fmt: skip
    def test_of_the_payload(self, retry: Any, count: int | None, kind: type) -> None:
        fields: dict[str, Any] = {} if count is None else {"retry_count": count}
        assert type(failed(retry=retry, **fields)) is kind

    def test_of_the_worker_when_the_payload_has_none(self) -> None:
        assert type(failed(Rules(retry=0))) is Bury
        assert type(failed(Rules(retry=False))) is Done
        assert type(failed(Rules(retry=0), retry=True)) is Retry

    def test_final_failures_are_not_retried(self) -> None:
        verdict = decided(Failure(ValueError("no"), final=True))
        assert isinstance(verdict, Bury)
        assert decode(verdict.payload).payload["error_message"] == "no"

    def test_killed_is_dead_even_without_retries(self) -> None:
        """`retry=False` drops what fails; who says Kill wants to see it again."""
        verdict = decided(Failure(Kill("look at this"), final=True), retry=False)
        assert isinstance(verdict, Bury)
        assert decode(verdict.payload).payload["error_message"] == "look at this"

    @pytest.mark.parametrize(
        ("age_s", "count", "retry", "kind"),
        [
            (None, None, True, Retry), (59.0, 500, True, Retry), (60.0, 500, 1, Retry),
            (60.5, 0, True, Bury), (60.5, 0, 10_000, Bury), (60.5, 0, False, Done),
        ],
    )  # fmt: skip
    def test_retry_for_alone_decides(
        self, age_s: float | None, count: int | None, retry: Any, kind: type
    ) -> None:
        """As Sidekiq from 8.1 on: the number of retries does not count beside it."""
        fields: dict[str, Any] = {} if count is None else {"retry_count": count}
        if age_s is not None:
            fields["failed_at"] = NOW - age_s
        assert type(failed(retry_for=60, retry=retry, **fields)) is kind
        assert type(failed(Rules(retry_for=60.0), retry=retry, **fields)) is kind
        assert type(failed(Rules(retry_for=1.0), retry_for=60, retry=retry, **fields)) is kind

    def test_retry_for_reads_sidekiqs_milliseconds(self) -> None:
        for age_s, kind in ((59.0, Retry), (61.0, Bury)):
            at = int((NOW - age_s) * 1000)
            assert type(failed(retry_for=60, retry_count=3, failed_at=at)) is kind

    def test_no_dead_set_wanted(self) -> None:
        gone = Done(7, failed=True)
        assert failed(Rules(dead=False), retry=0) == gone
        assert failed(retry=0, dead=False) == gone
        assert type(failed(Rules(dead=False), retry=1)) is Retry


class TestFields:
    def payload(self, **fields: Any) -> dict[str, Any]:
        verdict = failed(**fields)
        assert isinstance(verdict, Retry | Bury)
        return decode(verdict.payload).payload

    def test_of_the_first_failure(self) -> None:
        payload = self.payload()
        assert payload["error_class"] == "ValueError"
        assert payload["error_message"] == "no"
        assert (payload["retry_count"], payload["failed_at"]) == (0, NOW)
        assert "retried_at" not in payload

    @pytest.mark.parametrize("first", [1_699_999_000.0, 1_699_999_000_000])
    def test_of_later_ones(self, first: float) -> None:
        payload = self.payload(retry_count=3, failed_at=first, retried_at=5)
        assert (payload["retry_count"], payload["failed_at"]) == (4, first)
        assert payload["retried_at"] == NOW

    def test_all_others_stay(self) -> None:
        payload = self.payload(custom={"a": [1]}, tags=["x"], bid="b", at=5.0)
        assert payload["custom"] == {"a": [1]}
        assert (payload["tags"], payload["bid"], payload["args"]) == (["x"], "b", [1])

    def test_the_text_of_arguments_stays(self) -> None:
        args = "[ 123456789012345678901234567890,  1.0, 1e3 ]"
        raw = f'{{"class": "A", "args": {args}}}'.encode()
        outcomes: list[Outcome] = [Failure(ValueError()), Snoozed(5.0)]
        for outcome in outcomes:
            verdict = decide(Claim("q", 1, raw), decode(raw), outcome, Rules(), NOW, no_luck)
            assert isinstance(verdict, Retry | Defer)
            assert split(verdict.payload.decode())["args"] == args

    @pytest.mark.parametrize("wanted", ["retries", 5, "no such queue!", "", None])
    def test_retries_may_have_a_queue_of_their_own(self, wanted: Any) -> None:
        home = "retries" if wanted == "retries" else "q"
        assert self.payload(retry_queue=wanted)["queue"] == home
        verdict = failed(Rules(retry_queue=wanted if isinstance(wanted, str) else None))
        assert isinstance(verdict, Retry)
        assert decode(verdict.payload).queue == home

    def test_who_dies_stays_at_home(self) -> None:
        assert self.payload(retry_queue="retries", retry=0)["queue"] == "q"

    def test_it_comes_back_to_the_queue_it_was_found_in(self) -> None:
        assert self.payload(queue="another")["queue"] == "q"

    def test_words_of_an_error(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("can't speak")

        assert message(ValueError("x" * 20_000)) == "x" * 10_000
        assert message(ValueError("\ud800é")) == "?é"
        assert "could not be read" in message(Mute())
        assert message(KeyboardInterrupt()) == ""

    def test_notes_are_part_of_the_message(self) -> None:
        error = ValueError("no")
        error.add_note("raised by middleware audit")
        assert message(error) == "no\nraised by middleware audit"
        error.__notes__ = [5, "six"]  # type: ignore[list-item]
        assert message(error) == "no\n5\nsix"
        error.__notes__ = 7  # type: ignore[assignment]
        assert "could not be read" in message(error)

    def test_a_message_that_ends_the_process_does_not(self) -> None:
        class Exits(Exception):
            def __str__(self) -> str:
                raise SystemExit(1)

        assert "could not be read" in message(Exits())

    def test_the_name_of_an_error_is_text_and_no_markup(self) -> None:
        class Meta(type):
            @property
            def __name__(cls) -> str:  # type: ignore[override]
                raise RuntimeError("mine")

        odd = type("<b>", (ValueError,), {})
        assert class_name(odd()) == "(b)"
        assert class_name(Meta("Odd", (ValueError,), {})()) == "Odd"
        verdict = decided(Failure(odd()))
        assert isinstance(verdict, Retry)
        assert decode(verdict.payload).payload["error_class"] == "(b)"


def lines(packed: str) -> list[str]:
    """As Ruby reads it: strict base64, zlib, a JSON array of strings."""
    found = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
    assert isinstance(found, list)
    return found


def deep(n: int) -> None:
    if n == 0:
        raise ValueError("deep")
    deep(n - 1)


def raised(n: int = 5) -> BaseException:
    try:
        deep(n)
    except BaseException as error:
        return error
    raise AssertionError


class TestBacktrace:
    def stack(self, error: BaseException, rules: Rules = PLAIN, **fields: Any) -> list[str] | None:
        verdict = decided(Failure(error), rules, **fields)
        assert isinstance(verdict, Retry)
        packed = decode(verdict.payload).payload.get("error_backtrace")
        assert packed is None or "\n" not in packed
        return None if packed is None else lines(packed)

    def test_none_unless_it_is_wanted(self) -> None:
        assert self.stack(raised()) is None
        assert self.stack(raised(), Rules(backtrace=True), backtrace=False) is None

    def test_innermost_first(self) -> None:
        found = self.stack(raised(), Rules(backtrace=True))
        assert found is not None
        assert len(found) == 7
        assert found[0].startswith(__file__)
        assert [line.rpartition(":in ")[2] for line in found] == ["`deep'"] * 6 + ["`raised'"]

    def test_so_many_frames(self) -> None:
        assert len(self.stack(raised(), Rules(backtrace=3)) or ()) == 3
        assert len(self.stack(raised(), Rules(backtrace=3), backtrace=2) or ()) == 2

    def test_never_more_than_a_thousand(self) -> None:
        def endless(n: int) -> None:
            endless(n + 1)

        before = sys.getrecursionlimit()
        sys.setrecursionlimit(5000)
        try:
            endless(0)
        except RecursionError as error:
            found = self.stack(error, backtrace=True)
            all_of_them = self.stack(error, backtrace=10**400)
        finally:
            sys.setrecursionlimit(before)
        assert found == all_of_them
        assert found is not None
        assert len(found) == MAX_FRAMES == 1000
        assert "endless" in found[0]

    def test_no_markup_and_no_lone_surrogates(self) -> None:
        """Ruby's pages show each line as it is; a file's name may be any bytes."""
        try:
            exec(compile("raise ValueError", "/tmp/<b>\udcff.py", "exec"))
        except ValueError as error:
            found = self.stack(error, backtrace=True)
        assert found is not None
        assert found[0] == "/tmp/(b)?.py:1:in `(module)'"
        assert not [line for line in found if "<" in line or ">" in line]

    @pytest.mark.parametrize("junk", ["yes", 1.5, [1], {"a": 1}, -3])
    def test_junk_is_wanted_or_not(self, junk: Any) -> None:
        assert len(self.stack(raised(), backtrace=junk) or ()) in (0, 7)

    def test_no_source_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is written where all jobs are settled: a slow disk would stop them all."""
        monkeypatch.setattr(linecache, "getline", None)
        monkeypatch.setattr(linecache, "checkcache", None)
        assert self.stack(raised(), backtrace=True)


HELD: dict[str, Any] = {"unique_token": "T" * 64, "unique_for": 60}
LOCK = Lock("T" * 64, 60.0)


class TestLocks:
    """Every verdict on a unique job frees its lock or holds on to it."""

    @pytest.mark.parametrize(
        ("outcome", "fields", "kind"),
        [
            (SUCCESS, {}, Done), (Aborted("expired"), {}, Done),
            (Cancelled(), {}, Bury), (Cancelled(keep=False), {}, Done),
            (Snoozed(5.0), {}, Defer), (Failure(ValueError()), {}, Retry),
            (Failure(ValueError()), {"retry": 0}, Bury),
            (Failure(ValueError()), {"retry": False}, Done),
            (Failure(ValueError()), {"retry": 0, "dead": False}, Done),
            (Failure(Kill("x"), final=True), {}, Bury),
        ],
    )  # fmt: skip
    def test_of_every_outcome(self, outcome: Outcome, fields: Any, kind: type) -> None:
        for until in ("success", "start"):
            verdict = decided(outcome, **HELD, **fields, unique_until=until)
            assert type(verdict) is kind
            in_s = verdict.in_s if isinstance(verdict, Retry | Defer) else None
            held = FreeLock(LOCK, "j") if in_s is None else ExtendLock(LOCK, "j", in_s)
            assert verdict.effects == (held,)
        verdict = decided(outcome, **HELD, **fields, unique_until="expiry")
        assert verdict.effects == ()

    def test_of_a_discarding_backoff(self) -> None:
        verdict = failed(Rules(backoff=lambda *_: Discard), **HELD)
        assert verdict == Done(7, failed=True, effects=(FreeLock(LOCK, "j"),))

    def test_who_goes_back_keeps_it(self) -> None:
        assert decided(RELEASED, **HELD) == Release(7)


class TestUsing:
    """What `using(...)` gave one job travels under the field `kiq`."""

    def job(self, own: Any) -> Job:
        return Job.from_payload({"class": "Work", "args": [], "kiq": own})

    def test_its_timeout(self) -> None:
        assert timeout_of(self.job({"timeout": 5}), 60.0) == 5.0
        assert timeout_of(self.job({"timeout": 0}), 60.0) == 0.0
        assert timeout_of(self.job({"timeout": 5}), None) == 5.0

    @pytest.mark.parametrize("junk", [None, True, "5", [5], -1, {}])
    def test_junk_is_the_workers(self, junk: Any) -> None:
        for own in ({"timeout": junk}, {}, 5, "x", None, [1]):
            assert timeout_of(self.job(own), 60.0) == 60.0

    @pytest.mark.parametrize("huge", [1e308, 10**400, math.inf])
    def test_a_timeout_is_one_that_a_loop_can_wait_for(self, huge: Any) -> None:
        found = timeout_of(self.job({"timeout": huge}), None)
        assert found is not None
        assert found < 1e10


class TestOtherOutcomes:
    def test_success_and_abort(self) -> None:
        assert decided(SUCCESS) == decided(Aborted("expired")) == Done(7)

    def test_release(self) -> None:
        assert decided(RELEASED) == Release(7)

    def test_snooze_is_no_retry(self) -> None:
        verdict = decided(Snoozed(30.0), enqueued_at=5.0, retry_count=2, at=9)
        assert isinstance(verdict, Defer)
        payload = decode(verdict.payload).payload
        assert verdict.in_s == 30.0
        assert "enqueued_at" not in payload
        assert payload["retry_count"] == 2

    def test_cancelled(self) -> None:
        verdict = decided(Cancelled(), retry_count=2, failed_at=5.5, error_class="E")
        assert isinstance(verdict, Bury)
        payload = decode(verdict.payload).payload
        assert (payload["error_class"], payload["error_message"]) == (
            "kiqpy.Cancelled",
            "cancelled",
        )
        assert payload["retry_count"] == 2
        assert decided(Cancelled(keep=False)) == Done(7)

    def test_a_snooze_is_never_negative_nor_endless(self) -> None:
        assert Snooze(-3).seconds == 0.0
        verdict = decided(Snoozed(Snooze(math.inf).seconds))
        assert isinstance(verdict, Defer)
        assert verdict.in_s < 1e10

    def test_what_can_not_be_read(self) -> None:
        claim = Claim("q", 7, b"\xff")
        outcomes: list[tuple[Outcome, Verdict]] = [
            (Failure(ValueError()), Bury(7, b"\xff")), (Snoozed(5.0), Defer(7, b"\xff", 5.0)),
            (RELEASED, Release(7)), (SUCCESS, Done(7)),
        ]  # fmt: skip
        for outcome, verdict in outcomes:
            assert decide(claim, None, outcome, Rules(), NOW, no_luck) == verdict


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text("a|\u2028", max_size=3)
    | st.sampled_from([10**400, -(10**400), 10**20, 2**63, 1e308]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["backoff", "timeout", "x"]), inner, max_size=2),
)  # fmt: skip
fields_read = st.sampled_from(
    ["retry", "retry_count", "failed_at", "retried_at", "dead", "jid", "queue", "recovered",
     "recovered_at", "enqueued_at", "expires_at", "retry_for", "retry_queue", "backtrace",
     "unique_token", "unique_for", "unique_until", "unlocks_at", "kiq", "error_class"]
)  # fmt: skip


def written(fields: dict[str, Any]) -> bytes:
    """JSON with infinite numbers as other writers may write them."""
    body = {"class": "Work", "args": [], **fields}
    return json.dumps(body, ensure_ascii=True).replace("Infinity", "1e999").encode()


class TestHostilePayloads:
    """Whatever stands in a payload's fields, there is a verdict; and what it holds can be read."""

    @quick
    @given(
        st.dictionaries(fields_read, junk, max_size=5),
        st.sampled_from(["sidekiq", "kiq", "exq", "toniq", "queuetopia", "constant"]),
    )
    def test_there_is_always_a_verdict(self, fields: dict[str, Any], name: str) -> None:
        raw = written(fields)
        job = decode(raw)
        timeout_of(job, None)
        outcomes: list[Outcome] = [
            Failure(raised()), Failure(Kill("x"), final=True), Snoozed(1.0), SUCCESS, RELEASED,
            Aborted("x"), Cancelled(), Cancelled(keep=False),
        ]  # fmt: skip
        for outcome in outcomes:
            verdict = decide(Claim("q", 1, raw), job, outcome, Rules(backoff=name), NOW, best_luck)
            if isinstance(verdict, Retry | Defer):
                assert 0.0 <= verdict.in_s < 1e10
            if isinstance(verdict, Retry | Defer | Bury):
                decode(verdict.payload)

    @quick
    @given(st.dictionaries(fields_read, junk, max_size=5))
    def test_a_crash_can_always_be_recovered_from(self, fields: dict[str, Any]) -> None:
        raw = written(fields)
        payload, _ = recover(raw, decode(raw), NOW, lambda: 0.5)
        assert decode(payload).recovered >= 1 or fields.get("recovered")

    @quick
    @given(st.dictionaries(fields_read, junk, max_size=5))
    def test_every_view_can_be_taken(self, fields: dict[str, Any]) -> None:
        job = decode(written(fields))
        assert isinstance(job.attempt + job.recovered, int)
        for stamp in (job.enqueued_at, job.expires_at):
            assert stamp is None or math.isfinite(stamp)
        assert isinstance(job.jid + job.queue + repr(job), str)


class TestRecover:
    def crashed(self, *ages_h: float) -> tuple[dict[str, Any], list[bool]]:
        raw, poisons = claim_of().raw, list[bool]()
        for age_h in ages_h:
            raw, poison = recover(raw, decode(raw), NOW + age_h * HOUR_S, lambda: 0.5)
            poisons.append(poison)
        return decode(raw).payload, poisons

    def test_the_fourth_crash_within_three_days_is_poison(self) -> None:
        payload, poisons = self.crashed(0, 10, 70, 71.9)
        assert poisons == [False, False, False, True]
        assert payload["error_class"] == "kiqpy.Poison"
        assert "4 times" in payload["error_message"]
        assert (payload["retry_count"], payload["failed_at"]) == (0, NOW + 71.9 * HOUR_S)

    def test_the_window_begins_anew(self) -> None:
        payload, poisons = self.crashed(0, 10, 70, 72.1, 73, 74)
        assert not any(poisons)
        assert (payload["recovered"], payload["recovered_at"]) == (3, NOW + 72.1 * HOUR_S)

    def test_no_attempt_is_used_up(self) -> None:
        payload, _ = self.crashed(0)
        assert Job.from_payload(payload).attempt == 1
        assert "error_class" not in payload

    def test_what_can_not_be_read_stays_as_it_is(self) -> None:
        assert recover(b"\xff", None, NOW, lambda: 0.5) == (b"\xff", False)

    def test_the_limits_are_as_documented(self) -> None:
        assert (policy.POISON_STARTS, policy.POISON_WINDOW_S) == (3, 72 * HOUR_S)
        assert default_retries("sidekiq", Job("a")) == 25

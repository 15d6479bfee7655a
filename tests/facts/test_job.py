"""Payloads: parsed strictly, changed sparingly, and refused with a name."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiqpy import ConfigError, worker
from kiqpy._payload import json as job
from kiqpy._payload.arguments import MAX_DEPTH, check_args
from kiqpy._payload.json import amend, encode, split
from kiqpy.errors import ArgumentError, DecodeError
from kiqpy.job import Job, decode, seconds

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text('ab"\\{}[],: \n\x00é\u2028\U0001f600', max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = texts.filter(lambda name: name not in ("class", "args"))
bodies = st.dictionaries(names, values, max_size=4)
spaces = st.text(" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A job as another client might write it: any spacing, any escapes, any order."""
    fields = [("class", json.dumps("Work")), ("args", draw(st.lists(values, max_size=4)))]
    fields += list(draw(bodies).items())
    ascii_only = draw(st.booleans())
    parts = [
        f"{draw(spaces)}{json.dumps(name, ensure_ascii=ascii_only)}{draw(spaces)}:{draw(spaces)}"
        f"{value if name == 'class' else json.dumps(value, ensure_ascii=ascii_only)}{draw(spaces)}"
        for name, value in draw(st.permutations(fields))
    ]
    return f"{draw(spaces)}{{{','.join(parts)}}}{draw(spaces)}".encode()


@pytest.fixture(scope="class", params=["msgspec", "json"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both readers say the same of everything."""
    fast = job._fast
    assert fast is not None, "msgspec is in the extra `fast`, which tests are run with"
    if request.param == "json":
        job._fast = None
    yield request.param
    job._fast = fast


@pytest.mark.usefixtures("reader")
class TestDecode:
    @quick
    @given(written())
    def test_reads_what_json_reads(self, raw: bytes) -> None:
        assert decode(raw).payload == json.loads(raw)

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"", "not JSON"),
            (b"nonsense", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b'\xef\xbb\xbf{"class":"A","args":[]}', "not JSON"),
            (b'{"class":"A","args":[NaN]}', "NaN is not JSON"),
            (b'{"class":"A","args":[-Infinity]}', "-Infinity is not JSON"),
            (b'{"class":"A","args":[]} {}', "not JSON"),
            (b"{" * 100_000, "not JSON"),
            (b'{"class":"A","args":' + b"[" * 100_000, "not JSON"),
            (b'{"class":"A","args":[' + b"9" * 5000 + b"]}", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'"x"', "not a JSON object"),
            (b"null", "not a JSON object"),
            (b"{}", "no class name"),
            (b'{"class":"","args":[]}', "no class name"),
            (b'{"class":7,"args":[]}', "no class name"),
            (b'{"class":"A"}', "args is not an array"),
            (b'{"class":"A","args":{}}', "args is not an array"),
            (b'{"class":"A","args":"[1"}', "args is not an array"),
            (b'{"class":"A","args":"\\ud800"}', "args is not an array"),
            (b'{"class":"A","args":"7"}', "args is not an array"),
            (b'{"class":"A","args":"{\\"a\\":1}"}', "args is not an array"),
        ],
    )
    def test_says_what_is_wrong(self, raw: bytes, reason: str) -> None:
        with pytest.raises(DecodeError, match=reason) as caught:
            decode(raw)
        assert caught.value.raw == raw

    @pytest.mark.parametrize(
        ("text", "args"),
        [('"[]"', []), ('"{}"', []), ('"[1,\\"a\\",{\\"b\\":2}]"', [1, "a", {"b": 2}])],
    )
    def test_arguments_in_text_are_read_as_verk_writes_them(
        self, text: str, args: list[Any]
    ) -> None:
        assert decode(f'{{"class":"A","args":{text}}}'.encode()).args == args

    @quick
    @given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda b: b'{"class":"A",' + b))
    def test_raises_nothing_else(self, raw: bytes) -> None:
        try:
            decode(raw)
        except DecodeError:
            pass

    @quick
    @given(st.binary(max_size=40).map(lambda b: b'{"class":"A","args":[' + b + b"]}") | written())
    def test_both_readers_read_the_same(self, raw: bytes) -> None:
        assert _told(raw) == _told_by_json(raw)

    def test_hole_16_large_integers_stay_integers(self) -> None:
        digits = [12345678901234567890, 123456789012345678901234567890, -(10**30)]
        assert decode(encode({"class": "A", "args": digits})).args == digits

    def test_the_last_of_two_fields_counts(self) -> None:
        raw = b'{"class":"A","args":[1],"jid":"x","args":[2],"jid":"y"}'
        assert (decode(raw).args, decode(raw).jid) == ([2], "y")
        changed = amend(raw, {"n": 1})
        assert (decode(changed).args, decode(changed).jid) == ([2], "y")


class Plain(Enum):
    ONE = 1


class Word(StrEnum):
    ONE = "one"


class Level(IntEnum):
    ONE = 1


class Real(float):
    """As numpy's float64 is derived from it."""


class Model:
    """As pydantic's models are: what makes it JSON is called so."""

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        return {"mode": mode}


@dataclass
class Fields:
    n: int


def _told(raw: bytes) -> object:
    try:
        return repr(decode(raw).payload)
    except DecodeError as error:
        return str(error)


def _told_by_json(raw: bytes) -> object:
    fast, job._fast = job._fast, None
    try:
        return _told(raw)
    finally:
        job._fast = fast


class TestEncode:
    @quick
    @given(st.lists(values, max_size=4), bodies)
    def test_both_writers_write_the_same(self, args: list[Any], body: dict[str, Any]) -> None:
        check_args(args)
        payload = {**body, "class": "A", "args": args}
        assert decode(encode(payload, checked=True)).payload == decode(encode(payload)).payload

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1e22, "1.0e+22"), (-1.5e300, "-1.5e+300"), (1e-5, "1.0e-05"), (5e-324, "5.0e-324"),
            (1e15, "1.0e+15"), (-9999999999999998.0, "-9.999999999999998e+15"),
            (1000000000000000.5, "1000000000000000.5"), (999999999999999.9, "999999999999999.9"),
            (-0.0, "-0.0"), (0.0001, "0.0001"), (100.0, "100.0"),
        ],
    )  # fmt: skip
    def test_floats_are_written_as_ruby_writes_them(self, value: float, text: str) -> None:
        """Sidekiq's `reschedule` names a job by what Ruby would write, and doubled it."""
        args = ["1e22 1000000000000000.0", {"k": [value]}]
        as_usual = check_args(args)
        raw = encode({"class": "A", "args": args}, checked=as_usual)
        assert raw.decode() == (
            f'{{"class":"A","args":["1e22 1000000000000000.0",{{"k":[{text}]}}]}}'
        )

    def test_names_of_fields_are_written_as_ruby_writes_them(self) -> None:
        """An unknown field's name was escaped when another field changed."""
        raw = '{"class":"A","args":[],"né":1}'.encode()
        assert (
            amend(raw, {"retry_count": 0})
            == '{"class":"A","args":[],"né":1,"retry_count":0}'.encode()
        )

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1}, datetime.now(UTC), uuid4()])
    def test_what_only_the_faster_writer_would_take_is_refused(self, bad: object) -> None:
        with pytest.raises(ArgumentError, match="can't be written as JSON"):
            encode({"class": "A", "args": [], "x": bad}, checked=True)

    @quick
    @given(st.dictionaries(texts, values, max_size=4))
    def test_comes_back_as_it_went(self, payload: dict[str, Any]) -> None:
        raw = encode(payload)
        assert json.loads(raw) == payload
        assert b"\n" not in raw

    @pytest.mark.parametrize(
        "bad", [float("nan"), float("inf"), object(), b"x", {1}, {(1, 2): 3}, "\ud800"]
    )
    def test_refuses_what_is_not_json(self, bad: object) -> None:
        with pytest.raises(ArgumentError, match="JSON"):
            encode({"args": [bad]})

    def test_refuses_what_holds_itself(self) -> None:
        ring: list[object] = []
        ring.append(ring)
        with pytest.raises(ArgumentError):
            encode({"args": ring})


class TestSplitAndAmend:
    @quick
    @given(written())
    def test_each_field_with_its_text(self, raw: bytes) -> None:
        fields = split(raw.decode())
        assert {name: json.loads(text) for name, text in fields.items()} == json.loads(raw)
        assert all(text == text.strip() for text in fields.values())

    @quick
    @given(written(), bodies, st.lists(names, max_size=3))
    def test_only_what_was_asked_for_changes(
        self, raw: bytes, changes: dict[str, Any], drop: list[str]
    ) -> None:
        before, after = split(raw.decode()), split(amend(raw, changes, drop).decode())
        for name in before.keys() - changes.keys() - set(drop):
            assert after[name] == before[name]
        for name in changes.keys() - set(drop):
            assert json.loads(after[name]) == changes[name]
        assert after.keys() == (before.keys() | changes.keys()) - set(drop)

    @pytest.mark.parametrize(
        "args",
        [
            "[ 1 ,2.50,  1e3, 1E+2 , -0.0]",
            "[12345678901234567890, 123456789012345678901234567890]",
            '["\\u00e9\\/\\ud83d\\ude00", "é", "\\"}],{\\\\"]',
            '[{"jid": "x", "queue" : "y", "args": [ ], "a":1, "a":2}]',
            '["\\ud800"]',
            "[ ]",
        ],
    )
    def test_the_text_of_arguments_is_kept(self, args: str) -> None:
        raw = f' {{ "class" : "A", "args" : {args} , "jid": "j"}} '.encode()
        changed = amend(raw, {"jid": "k", "new": [1]}, drop=("nothing",))
        assert split(changed.decode())["args"] == args
        assert decode(changed).args == decode(raw).args
        assert amend(changed, {}) == changed

    def test_what_was_read_can_be_changed_from_anywhere(self) -> None:
        """The decoder's limit is the stack's, and who settles may stand deeper than who read."""

        def deeper(frames: int, call: Callable[[], bytes]) -> bytes:
            return call() if frames == 0 else deeper(frames - 1, call)

        read = 0
        for depth in range(10, sys.getrecursionlimit() + 100, 30):
            args = '["]}", ' + "[" * depth + '"[\\"{"' + "]" * depth + "]"
            raw = f'{{"class":"A","args":{args},"jid":"j"}}'.encode()
            try:
                decode(raw)
            except DecodeError:
                continue
            read += 1
            changed = deeper(100, lambda raw=raw: amend(raw, {"jid": "k"}))
            assert split(changed.decode())["args"] == args
        assert read > 3

    def test_an_empty_object(self) -> None:
        assert split(" { } ") == {}
        assert amend(b"{}", {"a": 1}) == b'{"a":1}'


class TestCheckArgs:
    @quick
    @given(st.lists(values, max_size=4))
    def test_json_is_fine(self, args: list[Any]) -> None:
        check_args(args)

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (float("nan"), "is nan"),
            (float("inf"), "is inf"),
            (2**64, "does not fit 64 bits"),
            (-(2**63) - 1, "does not fit 64 bits"),
            ("\ud800", "lone surrogate"),
            ((1, 2), "is a tuple"),
            ({1, 2}, "is a set"),
            (b"bytes", "is a bytes"),
            (object(), "is a object"),
            ({1: 2}, "key that is not a string"),
            ({"\ud800": 2}, "lone surrogate"),
            (json.JSONDecodeError, "is a type"),
        ],
    )
    def test_names_the_argument(self, value: object, reason: str) -> None:
        for wrapped in (value, [value], {"k": [value]}):
            with pytest.raises(ArgumentError, match=f"argument number 2 .*{reason}"):
                check_args(["fine", wrapped])
            with pytest.raises(ArgumentError, match=f"argument 'second' .*{reason}"):
                check_args(["fine", wrapped], ["first", "second"])

    @pytest.mark.parametrize(
        ("value", "advice"),
        [
            (uuid4(), r"codecs=\[UUID\]"),
            (datetime(2030, 1, 1, tzinfo=UTC), r"codecs=\[datetime\]"),
            ((1, 2), r"codecs=\[tuple\], or pass list\(value\)"),
            (Plain.ONE, r"codecs=\[Plain\]"),
            (Word.ONE, r"codecs=\[Word\], or pass value\.value"),
            (Level.ONE, r"codecs=\[Level\], or pass value\.value"),
            (Fields(1), r"codecs=\[Fields\]"),
            (Real(1.5), r"pass float\(value\)"),
            (OrderedDict(a=1), r"pass dict\(value\)"),
            (Model(), r"pass value\.model_dump\(mode=\"json\"\)"),
            (object(), r"codecs=\[Codec\(object, \.\.\.\)\]"),
            (Plain, "pass its name, 'Plain'"),
        ],
    )
    def test_says_what_to_pass_bare_or_inside(self, value: object, advice: str) -> None:
        """What is derived from a kind of JSON's is refused wherever it stands."""
        for wrapped in (value, [value], {"k": [value]}):
            with pytest.raises(ArgumentError, match=f"argument number 1 is a .*{advice}"):
                check_args([wrapped])

    def test_a_key_is_text_and_nothing_derived_from_it(self) -> None:
        with pytest.raises(ArgumentError, match="has a key that is not a string"):
            check_args([{Word.ONE: 1}])

    def test_depth(self) -> None:
        nested: Any = 1
        for _ in range(MAX_DEPTH - 1):
            nested = [nested]
        check_args([nested])
        with pytest.raises(ArgumentError, match="nested deeper than 64"):
            check_args([[nested]])

    def test_a_ring_is_too_deep(self) -> None:
        ring: dict[str, object] = {}
        ring["self"] = ring
        with pytest.raises(ArgumentError, match="nested"):
            check_args([ring])

    @quick
    @given(st.lists(values, max_size=4))
    def test_what_passes_arrives_as_it_left(self, args: list[Any]) -> None:
        job = Job("A", args)
        assert decode(encode(job.payload)).args == args


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class TestJob:
    @pytest.mark.parametrize("name", ["<script>", "a|b", "a\nb", "f.<locals>.g", "<lambda>"])
    def test_a_name_that_pages_and_metrics_would_misread_is_refused(self, name: str) -> None:
        with pytest.raises(ArgumentError, match="no class is named with"):
            Job(name)
        with pytest.raises(ConfigError, match="give it a name="):
            worker(name=name)(print)

    def test_extras_are_what_nobody_gives_a_meaning(self) -> None:
        job = Job("A", retry=3, tags=["x"], bid="b1", cattr={"user": 7})
        assert job.extras == {"bid": "b1", "cattr": {"user": 7}}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"retry": "three"}, "give True"),
            ({"retry": 2.5}, "a number of retries"),
            ({"retry": -1}, "a number of retries"),
            ({"queue": 5}, "queue name 5: use 1 to 128"),
            ({"queue": "a b"}, "queue name 'a b': use 1 to 128"),
            ({"retry_queue": 5}, "queue name 5"),
            ({"in_s": "x"}, "give seconds"),
            ({"in_s": -1}, "at least 0"),
            ({"in_s": float("inf")}, "at most 100 years"),
            ({"at_s": "x"}, "aware datetime or epoch seconds"),
            ({"at_s": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001
            ({"jid": 5}, "give a text"),
            ({"jid": ["x"]}, "give a text"),
            ({"jid": ""}, "give a text"),
            ({"expires_in": "5"}, "give seconds"),
            ({"expires_in": float("inf")}, "at most 100 years"),
            ({"retry_for": True}, "give seconds"),
            ({"unique_for": True}, "give seconds"),
            ({"unique_until": "whenever"}, "give 'success', 'start' or 'expiry'"),
            ({"dead": "no"}, "give True or False"),
            ({"tags": "x"}, "give a list of strings"),
            ({"backtrace": "all"}, "how many frames"),
            ({"cattr": "x"}, "give a dict"),
            ({"kiq": 5}, "give a dict"),
            ({"created_at": "x"}, "give epoch seconds"),
            ({"enqueued_at": float("inf")}, "give epoch seconds"),
            ({"failed_at": True}, "give epoch seconds"),
            ({"retry_count": "3"}, "give a whole number"),
            ({"error_backtrace": "x"}, "say backtrace=True"),
            ({"display_class": "<b>"}, "without <, >"),
            ({"error_class": "a|b"}, "without <, >"),
            ({"unique_token": 5}, "give a text"),
            ({"note": {1, 2}}, "note={1, 2} is a set"),
            ({"note": nested(150)}, "nested deeper than 64"),
            ({"cattr": {"id": nested(150)}}, "nested deeper than 64"),
        ],
    )
    def test_a_field_with_a_meaning_is_checked(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Job("A", **wrong)

    @pytest.mark.parametrize(
        ("field", "hint"),
        [
            ("in_", "say in_s="),
            ("at", "say at_s="),
            ("timeout", r"worker\.using\(timeout="),
            ("backoff", r"worker\.using\(backoff="),
            ("max_concurrency", r"@worker\(max_concurrency="),
            ("unique_by", r"@worker\(unique_by="),
            ("max_retries", "did you mean 'retry'"),
            ("time_limit", r"did you mean 'timeout'\? no payload has it"),
            ("expire_in", "did you mean 'expires_in'"),
            ("uniqe_for", "did you mean 'unique_for'"),
            ("tag", "did you mean 'tags'"),
            ("priority", "QueueGroup"),
            ("unique", "unique_for="),
            ("countdown", "in_=seconds"),
            ("cron", "periodics"),
        ],
    )
    def test_a_field_that_is_meant_to_be_another_is_named(self, field: str, hint: str) -> None:
        with pytest.raises(ConfigError, match=hint):
            Job("A", **{field: 5})

    def test_a_field_without_a_meaning_travels(self) -> None:
        others: dict[str, Any] = {
            "bid": "b", "cattr_1": {"id": 1}, "traceparent": "00-1", "note": {"a": [1, None]},
            "id": 7, "locale": "de", "expiry": 5.0, "trace_id": "x", "batch": None,
        }  # fmt: skip
        assert Job("A", **others).extras == others

    def test_durations_may_be_timedeltas_and_none_says_nothing(self) -> None:
        job = Job(
            "A", in_s=timedelta(minutes=1), expires_in=timedelta(hours=1), unique_for=60, jid=None
        )
        assert (job.in_s, job.payload["expires_in"]) == (60.0, 3600.0)
        assert "jid" not in job.payload
        assert Job("A", at_s=datetime(2030, 1, 1, tzinfo=UTC)).at_s == 1_893_456_000.0

    @pytest.mark.parametrize("wrong", ["text", b"text", {"a": 1}, 123, None, {1, 2}])
    def test_arguments_are_a_list(self, wrong: Any) -> None:
        with pytest.raises(ArgumentError, match="give a list, such as"):
            Job("A", wrong)

    def test_needs_no_worker(self) -> None:
        job = Job("Ruby::Worker", (1, "x"), queue="ruby", retry=5, in_s=3.0, custom={"a": 1})
        assert job.payload == {
            "class": "Ruby::Worker", "args": [1, "x"], "queue": "ruby", "retry": 5,
            "custom": {"a": 1},
        }  # fmt: skip
        assert (job.in_s, job.at_s, job.jid) == (3.0, None, "")

    def test_views_of_a_bare_payload(self) -> None:
        job = decode(b'{"class":"A","args":[]}')
        assert (job.class_, job.queue, job.jid) == ("A", "default", "")
        assert (job.attempt, job.retry_count, job.recovered) == (1, -1, 0)
        assert (job.enqueued_at, job.expires_at) == (None, None)

    @pytest.mark.parametrize(
        ("count", "attempt"),
        [(0, 2), (4, 6), (None, 1), ("3", 1), (True, 1), (2.0, 1), (10**99, 1)],
    )
    def test_attempts_follow_sidekiqs_count(self, count: object, attempt: int) -> None:
        assert Job.from_payload({"class": "A", "retry_count": count}).attempt == attempt

    @pytest.mark.parametrize(
        ("stamp", "epoch"),
        [
            (1_700_000_000, 1_700_000_000.0),
            (1_700_000_000.25, 1_700_000_000.25),
            (1_700_000_000_250, 1_700_000_000.25),
            (0, 0.0),
            (None, None),
            (True, None),
            ("1700000000", None),
            (float("inf"), None),
            (float("nan"), None),
            (10**400, None),
            (-(10**400), None),
        ],
    )
    def test_times_in_either_unit(self, stamp: object, epoch: float | None) -> None:
        assert seconds(stamp) == epoch

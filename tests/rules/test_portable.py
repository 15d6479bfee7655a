"""What is handed on is readable by all who share the Redis: mended, buried or given back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kiqpy._payload.json import encode, pack_lines
from kiqpy._rules.portable import buried, handed_on, unsealed
from kiqpy.job import decode

GOOD = {"class": "A", "args": [1], "jid": "j", "queue": "q", "retry": True}


def passed(changes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    raw = encode({k: v for k, v in (GOOD | changes).items() if v is not ...})
    found = handed_on(raw, decode(raw), fields, lambda: 0.5)
    assert found is not None
    result: dict[str, Any] = json.loads(found)
    return result


def test_what_is_in_order_stays_byte_for_byte() -> None:
    raw = b'{"class":"A", "args":[1e5, 12345678901234567890123], "jid":"j","tags":["x"],"o":{ }}'
    assert handed_on(raw, decode(raw), {}, lambda: 0.5) == (
        b'{"class":"A","args":[1e5, 12345678901234567890123],"jid":"j","tags":["x"],"o":{ }}'
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"jid": ...}, {"jid": "800000008000000080000000"}),
        ({"jid": ""}, {"jid": "800000008000000080000000"}),
        ({"jid": ["x"]}, {"jid": "800000008000000080000000"}),
        ({"jid": 7}, {"jid": "7"}),
        ({"tags": "a"}, {"tags": ["a"]}),
        ({"tags": 1}, {"tags": ["1"]}),
        ({"tags": None}, {"tags": []}),
        ({"tags": [1, "b"]}, {"tags": ["1", "b"]}),
        ({"created_at": "2026-11-28"}, {"created_at": ...}),
        ({"enqueued_at": "x"}, {"enqueued_at": ...}),
        ({"failed_at": True, "retried_at": {}}, {"failed_at": ..., "retried_at": ...}),
        ({"error_backtrace": "x"}, {"error_backtrace": ...}),
        ({"error_backtrace": pack_lines(["a"])}, {"error_backtrace": pack_lines(["a"])}),
        ({"at": 5.0}, {"at": ...}),
        ({"created_at": 1795225663123}, {"created_at": 1795225663123}),
    ],
)
def test_a_field_that_says_nothing(wrong: dict[str, Any], right: dict[str, Any]) -> None:
    expected = {k: v for k, v in (GOOD | wrong | right).items() if v is not ...}
    assert passed(wrong) == expected


def test_arguments_in_text_are_handed_on_as_an_array() -> None:
    """Verk reads both, Sidekiq only the array."""
    raw = b'{"class":"A","args" : "[1,{\\"args\\":\\"x\\"}]","jid":"j"}'
    found = handed_on(raw, decode(raw), {}, lambda: 0.5)
    assert found == b'{"class":"A","args":[1,{"args":"x"}],"jid":"j"}'
    inside = b'{"class":"A","args":[1.50,{"args": "x"}],"jid":"j"}'
    assert handed_on(inside, decode(inside), {}, lambda: 0.5) == inside
    for deep in ("[" * 120 + "]" * 120, "[1e400]"):
        raw = json.dumps({"class": "A", "args": deep, "jid": "j"}).encode()
        assert handed_on(raw, decode(raw), {}, lambda: 0.5) is None


def test_what_is_said_anew_is_not_dropped() -> None:
    assert passed({"failed_at": "x"}, failed_at=7.0)["failed_at"] == 7.0


@pytest.mark.parametrize(
    "odd", ['"\\ud800"', "1e400", "-1e999", "[" * 100 + "]" * 100, '{"a":' * 100 + "1" + "}" * 100]
)
def test_what_ruby_can_not_read_is_not_handed_on(odd: str) -> None:
    raw = f'{{"class":"A","args":[],"x":{odd}}}'.encode()
    assert handed_on(raw, decode(raw), {}, lambda: 0.5) is None


@pytest.mark.parametrize("fine", ["[" * 99 + "]" * 99, '"' + "[" * 200 + '"', '"\\ud83c\\udf89"'])
def test_what_ruby_can_just_read_is_handed_on(fine: str) -> None:
    raw = f'{{"class":"A","args":[],"x":{fine}}}'.encode()
    assert handed_on(raw, decode(raw), {}, lambda: 0.5) is not None


@pytest.mark.parametrize(
    "raw", [b"[1]", b"null", b" null\n", b"7", b'"\\ud800"', b"[[1],{}]", b"true"]
)
def test_json_that_is_no_object_is_kept_in_one_and_given_back(raw: bytes) -> None:
    kept = decode(buried(raw, "mail", 5.0, lambda: 0.5))
    assert (kept.queue, kept.payload["error_message"]) == ("mail", "not a JSON object")
    assert unsealed(kept) == raw


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"{}", b'{"class":5}'])
def test_all_else_is_kept_as_it_is(raw: bytes) -> None:
    assert buried(raw, "mail", 5.0, lambda: 0.5) == raw


@pytest.mark.parametrize("args", [[], [1], ["a", "b"]])
def test_a_job_of_that_name_is_not_opened(args: list[Any]) -> None:
    raw = encode({"class": "kiqpy.Unreadable", "args": args})
    assert unsealed(decode(raw)) is None

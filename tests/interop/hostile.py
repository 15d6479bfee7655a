"""Elements that no client should write, by what is wrong with each; all for the worker Shaky."""

from __future__ import annotations

from typing import Any

from kiqpy._payload.json import encode

_GOOD = {"class": "Shaky", "args": ["h"], "jid": "hostile", "queue": "default", "retry": True}


def _job(**fields: Any) -> bytes:
    return encode({k: v for k, v in {**_GOOD, **fields}.items() if v is not ...})


def _text(field: str) -> bytes:
    """A job with a field as it is written."""
    return _job()[:-1] + b"," + field.encode() + b"}"


# No job can be read of these.
NO_JOB: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"not JSON",
    "half a job": b'{"class":"Shaky","args":[',
    "bytes that are not UTF-8": b"\xff\xfe\x00",
    "a job with bytes that are not UTF-8": _job(args=["X"]).replace(b"X", b"\xff"),
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a float": b"1.5",
    "text": b'"text"',
    "an empty list": b"[]",
    "a list": b"[1]",
    "a list of jobs": b"[" + _job() + b"]",
    "an empty object": b"{}",
    "no class": _job(**{"class": ...}),
    "class is null": _job(**{"class": None}),
    "class is a number": _job(**{"class": 7}),
    "class is empty": _job(**{"class": ""}),
    "class is a list": _job(**{"class": ["Shaky"]}),
    "no args": _job(args=...),
    "args is null": _job(args=None),
    "args is text": _job(args="h"),
    "args is a number": _job(args=7),
    "args is an object": _job(args={"a": 1}),
    "something after the job": _job() + b"x",
    "a comma too many": _job()[:-1] + b",}",
    "single quotes": _job().replace(b'"', b"'"),
    "a byte order mark": b"\xef\xbb\xbf" + _job(),
    "NaN": _text('"x":NaN'),
    "Infinity": _text('"x":Infinity'),
}

# These can be run, but Ruby could not read them, or not write them again.
NOT_FOR_RUBY: dict[str, bytes] = {
    "a lone surrogate": _text('"x":"\\ud800"'),
    "too deep": _text('"x":' + "[" * 150 + "]" * 150),
    "a number beyond all": _text('"x":1e400'),
}

# These can be read by all, and run.
A_JOB: dict[str, bytes] = {
    "no jid": _job(jid=...),
    "jid is null": _job(jid=None),
    "jid is a number": _job(jid=7),
    "jid is a list": _job(jid=["x"]),
    "no queue": _job(queue=...),
    "queue is null": _job(queue=None),
    "queue is a number": _job(queue=7),
    "queue is a list": _job(queue=["default"]),
    "queue has spaces": _job(queue="a b"),
    "no retry": _job(retry=...),
    "retry is text": _job(retry="3"),
    "retry is a float": _job(retry=3.0),
    "retry is null": _job(retry=None),
    "tags is text": _job(tags="a"),
    "tags is a number": _job(tags=1),
    "tags are numbers": _job(tags=[1, None]),
    "cattr is text": _job(cattr="x"),
    "enqueued_at is text": _job(enqueued_at="2026-11-28T00:00:00Z"),
    "created_at is text": _job(created_at="2026-11-28"),
    "created_at is null": _job(created_at=None),
    "failed_at is text": _job(failed_at="x", retry_count=0),
    "retried_at is text": _job(retried_at="x", retry_count=1, failed_at=1.0),
    "retry_count is text": _job(retry_count="3"),
    "retry_count is a float": _job(retry_count=1.5),
    "retry_count is huge": _job(retry_count=10**30),
    "error_backtrace is text": _job(error_backtrace="x"),
    "error_class is an object": _job(error_class={}, error_message=7),
    "display_class is markup": _job(display_class="<b>"),
    "display_class is a list": _job(display_class=["x"]),
    "class is markup": _job(**{"class": "<script>x</script>"}),
    "at is text": _job(at="soon"),
    "at is null": _job(at=None),
    "expires_at is text": _job(expires_at="x", expires_in="y"),
    "unique_token is a number": _job(unique_token=1, unique_for="x"),
    "retry_queue is a number": _job(retry_queue=7),
    "backtrace is text": _job(backtrace="yes"),
    "a field twice": _text('"args":["twice"]'),
    "spaces": b" \n" + _job().replace(b",", b" , ") + b"\r\n",
    "kiq is text": _job(kiq="x"),
}

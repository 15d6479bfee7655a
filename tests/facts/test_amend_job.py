"""Adding a field to a payload: the fast path gives the same bytes as the thorough one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiqpy._payload.json import amend
from kiqpy.job import amend_job, decode

FIELDS = st.dictionaries(
    st.sampled_from(["at", "enqueued_at", "queue", "retry", "x", 'a"b', "é"]),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers()),
)
SPACES = st.sampled_from(["", " ", "\n", "\t \r\n"])


@given(FIELDS, st.sampled_from([None, 1, (",", ":")]), SPACES, SPACES)
def test_it_says_the_same_as_amend(more: dict[str, Any], how: Any, before: str, after: str) -> None:
    options = {"separators": how} if isinstance(how, tuple) else {"indent": how}
    text = json.dumps({"class": "A", "args": [1.0, "}"], **more}, **options)
    raw = (before + text + after).encode()
    job = decode(raw)
    changes = {"enqueued_at": 1700000000.25, "note": 'a "é" \\'}
    quick, thorough = (
        amend_job(job, raw, changes, drop=("at",)), amend(raw, changes, drop=("at",)),
    )  # fmt: skip
    assert decode(quick).payload == decode(thorough).payload


@pytest.mark.parametrize("args", [b"[1.50, 12345678901234567890, {} ]", b'["\\u00e9", []]'])
def test_the_text_of_all_else_stays_as_it_was(args: bytes) -> None:
    raw = b'{"class":"A", "args":' + args + b"}\n"
    changed = amend_job(decode(raw), raw, {"enqueued_at": 1.5}, drop=("at",))
    assert changed == raw[:-2] + b',"enqueued_at":1.5}'

"""ActiveJob's wrapper, opened: each type that Rails writes, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from kiqpy._payload.active_job import unwrapped
from kiqpy.errors import ArgumentError


def wrapper(*arguments: Any, **fields: Any) -> dict[str, Any]:
    return {
        "wrapped": "Greeting",
        "args": [{"job_class": "Old", "arguments": list(arguments)}],
    } | fields


def written(kind: str, value: Any) -> dict[str, Any]:
    return {"_aj_serialized": f"ActiveJob::Serializers::{kind}Serializer", "value": value}


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (None, None), (7, 7), (1.5, 1.5), ("é", "é"), ([1, [None]], [1, [None]]),
        ({"a": 1, "b": [2], "_aj_symbol_keys": ["a"]}, {"a": 1, "b": [2]}),
        ({"a": 1, "_aj_hash_with_indifferent_access": True}, {"a": 1}),
        ({"a": 1, "_aj_ruby2_keywords": ["a"]}, {"a": 1}),
        (written("Symbol", "yes"), "yes"),
        (written("Time", "2026-01-02T03:04:05.678901234Z"),
         datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)),
        (written("TimeWithZone", "2026-01-02T03:04:05Z"),
         datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (written("Date", "2026-01-02"), date(2026, 1, 2)),
        (written("Duration", 90), timedelta(seconds=90)),
        (written("BigDecimal", "1.10"), Decimal("1.10")),
        ([{"at": written("Date", "2026-01-02")}], [{"at": date(2026, 1, 2)}]),
    ],
)  # fmt: skip
def test_each_type(wire: Any, value: Any) -> None:
    assert unwrapped(wrapper(wire)) == ("Greeting", [value])


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ({"_aj_globalid": "gid://shop/User/7"}, "gid://shop/User/7, which only Ruby can load"),
        ([{"u": {"_aj_globalid": "gid://shop/User/7"}}], "argument number 1 is the record"),
        (written("Range", [1, 2]), "RangeSerializer, which Python can't read"),
        (written("Time", "soon"), "has written 'soon'"),
        (written("Date", None), "has written None"),
        (written("BigDecimal", "x"), "has written 'x'"),
    ],
)
def test_what_python_can_not_read_is_refused(wire: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        unwrapped(wrapper(wire))


@pytest.mark.parametrize(
    "fields",
    [{"args": []}, {"args": [1]}, {"args": {}}, {"args": [{}]}, {"wrapped": 7},
     {"args": [{"job_class": "A", "arguments": "x"}]}],
)  # fmt: skip
def test_what_is_no_such_job_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="no job of ActiveJob"):
        unwrapped(wrapper(**fields))


def test_without_the_name_outside_the_one_inside_counts() -> None:
    assert unwrapped(wrapper(wrapped=None))[0] == "Old"

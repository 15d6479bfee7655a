"""Typed codecs: values survive a round trip as readable JSON; unlisted types are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiqpy import ArgumentError, ConfigError
from kiqpy._payload.arguments import check_args
from kiqpy.codec import Codec, Codecs


class Color(Enum):
    RED = object()  # its value need not be JSON
    BLUE = "b"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass
class Order:
    items: list[Money]
    when: datetime
    note: str = field(default="", kw_only=True)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = len(self.items)


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


POINT = Codec(Point, "geo.Point", lambda p: [p.x, p.y], lambda xy: Point(*xy))
ALL: list[Any] = [
    *(datetime, date, time, timedelta, UUID, Decimal, bytes, set, frozenset, tuple),
    *(Color, Size, Right, Money, Order, POINT),
]
codecs = Codecs(ALL)


def wire(value: Any, known: Codecs = codecs) -> Any:
    """What one argument looks like in Redis."""
    encoded = known.encode([value])
    check_args(encoded)
    return json.loads(json.dumps(encoded, allow_nan=False))[0]


def there_and_back(value: Any) -> Any:
    return codecs.decode([wire(value)])[0]


EXAMPLES: list[tuple[Any, Any]] = [
    (datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC), ["datetime", "2027-01-02T03:04:05+00:00"]),
    (date(2027, 1, 2), ["date", "2027-01-02"]),
    (time(3, 4, 5, 6), ["time", "03:04:05.000006"]),
    (timedelta(days=-1, microseconds=1), ["timedelta", "-86399.999999"]),
    (timedelta.max, ["timedelta", "86399999999999.999999"]),
    (UUID(int=7), ["UUID", "00000000-0000-0000-0000-000000000007"]),
    (Decimal("1.10"), ["Decimal", "1.10"]),
    (b"\x00\xff", ["bytes", "AP8="]),
    ({3, 1, 2}, ["set", [1, 2, 3]]),
    (frozenset(), ["frozenset", []]),
    ((1, [2]), ["tuple", [1, [2]]]),
    (Color.RED, ["Color", "RED"]),
    (Size.LARGE, ["Size", "LARGE"]),
    (Right.READ | Right.WRITE, ["Right", 3]),
    (Point(1, -1), ["geo.Point", [1, -1]]),
    (
        Money(Decimal(5)),
        ["Money", {"amount": {"$type": "Decimal", "$value": "5"}, "currency": "EUR"}],
    ),
]


@pytest.mark.parametrize(("value", "expected"), EXAMPLES, ids=lambda x: type(x).__name__)
def test_what_is_on_the_wire(value: Any, expected: Any) -> None:
    assert wire(value) == {"$type": expected[0], "$value": expected[1]}
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


def test_a_dataclass_is_made_anew_by_its_constructor() -> None:
    order = Order([Money(Decimal("0.1")), Money(Decimal(2), "USD")], EXAMPLES[0][0], note="x")
    assert wire(order)["$value"].keys() == {"items", "when", "note"}
    back = there_and_back(order)
    assert back == order
    assert back.total == 2


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], {}, {"$type": 1}, {"a": [{}]}])
def test_json_travels_as_it_is(value: Any) -> None:
    assert wire(value) == value
    assert there_and_back(value) == value


aware = st.datetimes(timezones=st.timezones() | st.sampled_from([UTC]))
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")) | st.datetimes(timezones=st.just(UTC)) | st.dates()
    | st.times() | st.timedeltas() | st.uuids() | st.binary() | st.sampled_from([*Color, *Size])
    | st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from([*Right, Right(0)])
    | st.builds(Point, st.integers(-9, 9), st.integers(-9, 9))
).filter(lambda value: value not in (float("inf"), float("-inf")))  # fmt: skip
hashable = leaves | st.builds(
    Money, st.decimals(allow_nan=False, allow_infinity=False), st.text("ab")
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("$typevalu"), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple) | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_all_that_is_listed_comes_back_as_it_was(value: Any) -> None:
    assert there_and_back(value) == value


@given(aware)
def test_an_instant_stays_that_instant(moment: datetime) -> None:
    back = there_and_back(moment)
    assert back.astimezone(UTC) == moment.astimezone(UTC)
    assert back.utcoffset() == moment.utcoffset()


@given(values)
def test_nothing_of_what_was_given_is_changed(value: Any) -> None:
    before = repr(value)
    codecs.encode([value])
    assert repr(value) == before


def test_equal_sets_have_one_text_whatever_the_hash_seed() -> None:
    """Unique jobs are told apart by the text of their arguments."""
    code = (
        "from kiqpy.codec import Codecs; import json;"
        "print(json.dumps(Codecs([set, frozenset]).encode([{'a', 'b', 'c', 1, 2.5, None,"
        "frozenset('xyz'), frozenset('zyx'), 'd', 'e'}])))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=".",
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(texts) == 1


# -- what is refused on the way out


class Subclass(datetime):
    pass


def test_only_listed_types_are_encoded() -> None:
    only = Codecs([UUID])
    with pytest.raises(ArgumentError, match="argument number 1 is a datetime: jobs carry JSON"):
        wire(datetime(2027, 1, 1, tzinfo=UTC), only)
    with pytest.raises(ArgumentError, match="is a Subclass"):
        wire(Subclass(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(ArgumentError, match="is a Decimal"):
        wire(Money(Decimal(1)), Codecs([Money]))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (datetime(2027, 1, 1), "'when' is a datetime with no time zone: use datetime.now"),  # noqa: DTZ001
        (Decimal("NaN"), r"'when' is no Decimal: Decimal\('NaN'\) \(ValueError: not finite\)"),
        ([{"$type": "x", "$value": 1}], r"'when' is an object of \$type and \$value"),
        ({"$value": 1, "$type": 1}, "stands for a typed value"),
    ],
)
def test_what_can_not_travel_is_named(value: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=f"argument {complaint}|{complaint}"):
        codecs.encode([1, value], ["n", "when"])


def test_circles_and_depths_end_with_a_message() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    endless = Codecs([Codec(Point, "P", lambda p: p, lambda p: p)])
    for known, value in ((codecs, circle), (endless, Point(1, 2))):
        with pytest.raises(ArgumentError, match="nested deeper than 64 levels"):
            known.encode([value])
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ArgumentError, match="argument number 1 is nested too deep"):
        codecs.decode([deep])


def test_a_codec_that_raises_is_told_of() -> None:
    broken = Codecs([Codec(Point, "P", lambda p: 1 // 0, lambda p: p)])
    with pytest.raises(ArgumentError, match=r"'at' is no P: .*ZeroDivisionError") as caught:
        broken.encode([Point(1, 2)], ["at"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- what is refused on the way in


def typed(name: Any, value: Any) -> dict[str, Any]:
    return {"$type": name, "$value": value}


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (typed("os.system", "x"), "'os.system', which this worker does not list: codecs="),
        (typed(["list"], 1), "which this worker does not list"),
        (typed(None, 1), "which this worker does not list"),
        (typed("datetime", "yesterday"), "is no datetime: 'yesterday'"),
        (typed("datetime", "2027-01-01T00:00:00"), "no time zone"),
        (typed("datetime", 7), "is no datetime: 7"),
        (typed("timedelta", "1e999999999"), "is no timedelta"),
        (typed("timedelta", "9" * 20), "is no timedelta"),
        (typed("timedelta", None), "is no timedelta"),
        (typed("UUID", "x"), "is no UUID"),
        (typed("Decimal", "x"), "is no Decimal"),
        (typed("Decimal", 0.1), "a float is not exact"),
        (typed("bytes", "*"), "is no bytes"),
        (typed("set", [[]]), "is no set"),
        (typed("set", "abc"), "a list expected"),
        (typed("tuple", {"a": 1}), "a list expected"),
        (typed("Color", "GREEN"), "is no Color: 'GREEN'"),
        (typed("Right", 64), "is no Right"),
        (typed("Money", {}), "is no Money: {} .*missing 1 required"),
        (typed("Money", {"amount": 1, "more": 1}), "is no Money: .*unexpected keyword"),
        (typed("Money", [1]), "is no Money"),
        (typed("geo.Point", [1]), "is no geo.Point"),
        (typed("tuple", [typed("nope", 1)]), "'nope', which this worker does not list"),
        (typed("UUID", "x" * 10_000), "is no UUID"),
    ],
)
def test_what_makes_no_sense_names_its_argument(found: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint) as caught:
        codecs.decode([1, [found]], ["n", "given"])
    assert str(caught.value).startswith("argument 'given' is ")
    assert len(str(caught.value)) < 400


def test_others_may_write_more_freely() -> None:
    """Ruby's ways of writing the same."""
    found = [
        typed("datetime", "2027-01-02T03:04:05Z"),
        typed("timedelta", 90),
        typed("timedelta", "1.5"),
        typed("Decimal", 7),
    ]
    assert codecs.decode(found) == [
        EXAMPLES[0][0], timedelta(seconds=90), timedelta(seconds=1.5), Decimal(7),
    ]  # fmt: skip


# -- the list


class Pair(NamedTuple):
    a: int


@pytest.mark.parametrize(
    ("types", "complaint"),
    [
        ([str], "codecs: str travels as it is: leave it out"),
        ([dict], "dict travels as it is"),
        ([Codec(int, "n", str, int)], "int travels as it is"),
        ([Point], r"Point is not known; .* or Codec\(Point, name, encode, decode\)"),
        ([Pair], "Pair is not known"),
        ([object], "object is not known"),
        ([list[int]], "is not known"),
        (["datetime"], "'datetime' is not known"),
        ([Money(Decimal(1))], "is not known"),
        ([None], "None is not known"),
        ([UUID, UUID], "UUID is there twice"),
        ([UUID, Codec(Point, "UUID", str, str)], "two types are called 'UUID'; name one of them"),
        ([Codec(Point, "")], "give Codec"),
        ([Codec("Point", "P", str, str)], "give Codec"),
        ([Codec(Point, 7, str, str)], "give Codec"),
        ([Codec(Point, "P", str)], "'P' needs both encode and decode"),
    ],
)
def test_a_list_that_can_not_be_says_why(types: list[Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Codecs(types)


def test_a_class_that_was_renamed_keeps_its_name_on_the_wire() -> None:
    renamed = Codecs([Decimal, Codec(Money, "Price")])
    assert wire(Money(Decimal(1)), renamed)["$type"] == "Price"
    assert renamed.decode([wire(Money(Decimal(1)), renamed)]) == [Money(Decimal(1))]


def test_the_zones_name_is_lost_and_its_offset_kept() -> None:
    moment = datetime(2027, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    assert wire(moment)["$value"] == "2027-07-01T12:00:00+02:00"

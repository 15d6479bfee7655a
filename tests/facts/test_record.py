"""Records are frozen values and behave like dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from kiqpy._record import Record


class Point(Record):
    """A place on paper."""

    unit: ClassVar[str] = "mm"
    x: float
    y: float


class Place(Record):
    """Another kind with the same fields."""

    x: float
    y: float


class Named(Point):
    """Fields come after those of the base."""

    name: str


class Wish(Record, kw_only=True):
    """Fields that are named; some may be left out."""

    price: float
    what: str = "a pony"
    where: str | None = None


class Dear(Wish):
    """Has its base's defaults, and another field that may be given by position."""

    shop: str = "here"


class Nothing(Record):
    """It has happened."""


MADE = [Point(1.0, 2.0), Named(1.0, 2.0, name="tree"), Wish(price=7.0), Nothing()]
every_one = pytest.mark.parametrize("made", MADE, ids=repr)


def test_fields_are_given_by_position_or_name() -> None:
    assert Named(1.0, 2.0, "tree") == Named(name="tree", y=2.0, x=1.0)
    assert repr(Named(1.0, 2.0, "tree")) == "Named(x=1.0, y=2.0, name='tree')"


def test_the_first_of_a_kind_is_made_like_the_others() -> None:
    class Base(Record):
        """A place."""

        x: float

    class Sub(Base):
        """With more, of a base that has been made before and after."""

        y: float

    assert [Base(1.0), Sub(1.0, 2.0), Base(x=1.0), Sub(x=1.0, y=2.0)] == [
        *(Base(1.0), Sub(1.0, 2.0), Base(1.0), Sub(1.0, 2.0)),
    ]
    assert (Sub(1.0, 2.0).x, Sub(1.0, 2.0).y) == (1.0, 2.0)


def test_a_first_one_that_does_not_fit_spoils_nothing() -> None:
    class Late(Record):
        """A place."""

        x: float

    for _ in range(2):
        with pytest.raises(TypeError, match=r"Late.__init__\(\) missing 1 .* 'x'"):
            Late()  # type: ignore[call-arg]
    assert Late(1.0).x == 1.0


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((1.0,), {}, r"Point.__init__\(\) missing 1 required positional argument: 'y'"),
    ((1.0, 2.0, 3.0), {}, r"Point.__init__\(\) takes 3 positional arguments but 4 were given"),
    ((1.0, 2.0), {"z": 3.0}, r"Point.__init__\(\) got an unexpected keyword argument 'z'"),
    ((1.0, 2.0), {"x": 3.0}, r"Point.__init__\(\) got multiple values for argument 'x'"),
]


@pytest.mark.parametrize(("args", "named", "message"), WRONG)
def test_what_does_not_fit_is_refused(
    args: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Point(*args, **named)


def test_what_is_left_out_has_its_default() -> None:
    assert repr(Wish(price=7.0)) == "Wish(price=7.0, what='a pony', where=None)"
    assert Wish(price=7.0) == Wish(where=None, what="a pony", price=7.0)
    assert Wish(price=7.0) != Wish(what="a car", price=7.0)
    assert (Dear("there", price=7.0).shop, Dear(price=7.0).shop) == ("there", "here")
    assert Dear("there", price=7.0).what == "a pony"
    assert [field.default for field in dataclasses.fields(Wish)][1:] == ["a pony", None]
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        Wish(7.0)  # type: ignore[misc]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'price'"):
        Wish()  # type: ignore[call-arg]


def test_only_equal_values_of_one_kind_are_equal() -> None:
    assert Point(1.0, 2.0) == Point(1.0, 2.0)
    assert Point(1.0, 2.0) != Point(1.0, 3.0)
    assert Point(1.0, 2.0) != Place(1.0, 2.0)
    assert Point(1.0, 2.0) != (1.0, 2.0)
    assert len({Point(1.0, 2.0), Point(1.0, 2.0), Point(2.0, 1.0)}) == 2


@every_one
def test_it_is_frozen_and_holds_its_fields_only(made: Record) -> None:
    for name in (*made.__dataclass_fields__, "more"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to .*'{name}'"):
            setattr(made, name, 7.0)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete .*'{name}'"):
            delattr(made, name)
    assert not hasattr(made, "__dict__")


@every_one
def test_it_can_be_copied_and_sent_to_another_process(made: Record) -> None:
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made


def test_it_is_a_dataclass_to_those_who_ask() -> None:
    named = Named(1.0, 2.0, "tree")
    assert [field.name for field in dataclasses.fields(named)] == ["x", "y", "name"]
    assert dataclasses.asdict(named) == {"x": 1.0, "y": 2.0, "name": "tree"}
    assert dataclasses.replace(named, y=3.0) == Named(1.0, 3.0, "tree")
    assert Named.unit == "mm"


def test_it_can_be_taken_apart() -> None:
    match MADE[1]:
        case Named(x, _, name=name):
            assert (x, name) == (1.0, "tree")
        case _:
            pytest.fail("it matches its own kind")

"""Typed codecs: arguments beyond JSON's own types, which a worker lists.

In Redis such a value is `{"$type": "datetime", "$value": "2027-01-02T03:04:05+00:00"}`, which any
language can read. kiqpy imports or unpickles nothing by a name from Redis: a type that the worker
does not list is an error.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast, final
from uuid import UUID

from kiqpy._payload.arguments import MAX_DEPTH
from kiqpy.errors import ArgumentError, ConfigError

T = TypeVar("T")

TYPE, VALUE = "$type", "$value"
_KEYS: Final = {TYPE, VALUE}
_Array: Final[type[list[Any]]] = list  # to narrow with it leaves checkers no unknown type
_Steps = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_PLAIN: Final[tuple[object, ...]] = (str, int, float, bool, list, dict, type(None))
_SECONDS: Final = r"(-?)([0-9]{1,20})(?:\.([0-9]{1,6}))?"


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How values of type `of` travel, under `name`.

    `encode` returns JSON values, or values that other codecs of the worker encode; `decode` is its
    reverse, and raises for what it cannot read. Without both, a type that kiqpy can encode by
    itself gets another name: `Codec(Price, "Money")` reads what was written while Price was called
    Money.
    """

    of: type[T]
    name: str
    encode: Callable[[T], Any] | None = None
    decode: Callable[[Any], T] | None = None


@final
class Codecs:
    """The types that one worker's arguments may hold beside JSON's own.

    A type is datetime (aware), date, time, timedelta, UUID, Decimal, bytes, set, frozenset, tuple,
    a subclass of Enum, a dataclass, or any other in a `Codec`. A subclass of a listed type is
    another type.
    Raises: ConfigError: for anything else, and for a type or name that is there twice.
    """

    def __init__(self, types: Iterable[type | Codec[Any]]) -> None:
        self._by_type: dict[type, Codec[Any]] = {}
        self._by_name: dict[str, Codec[Any]] = {}
        for given in types:
            self._add(_codec(given))

    def _add(self, codec: Codec[Any]) -> None:
        if codec.of in self._by_type:
            raise ConfigError(f"codecs: {_name(codec.of)} is there twice")
        if codec.name in self._by_name:
            raise ConfigError(
                f"codecs: two types are called {codec.name!r}; "
                f'name one of them: Codec({_name(codec.of)}, "another.{codec.name}")'
            )
        self._by_type[codec.of] = self._by_name[codec.name] = codec

    def encode(self, args: Sequence[Any], names: Sequence[str] = ()) -> list[Any]:
        """The arguments, with values of listed types as JSON; sets are sorted.

        Other values stay: `check_args` refuses them. `names`: of the parameters, for messages.
        Raises: ArgumentError: names the argument whose value its codec refuses.
        """
        return [_named(self._encoded, arg, n, names) for n, arg in enumerate(args)]

    def decode(self, args: Sequence[Any], names: Sequence[str] = ()) -> list[Any]:
        """The arguments as they were before `encode`.

        Raises: ArgumentError: names the argument that no codec of the list can read.
        """
        return [_named(self._decoded, arg, n, names) for n, arg in enumerate(args)]

    def _encoded(self, value: Any, depth: int = 1) -> Any:
        if depth > MAX_DEPTH:
            raise _Fault(f"is nested deeper than {MAX_DEPTH} levels: pass a flatter value")
        kind = _kind(value)
        codec = self._by_type.get(kind)
        if codec is not None:
            inner = self._encoded(_applied(codec, codec.encode, value), depth + 1)
            if codec.of in (set, frozenset):
                inner.sort(key=repr)  # a set has no order, its text needs one
            return {TYPE: codec.name, VALUE: inner}
        if kind is list:
            return [self._encoded(item, depth + 1) for item in value]
        if kind is not dict:
            return value
        if value.keys() == _KEYS:
            raise _Fault(f"is an object of {TYPE} and {VALUE}, which stands for a typed value")
        return {key: self._encoded(item, depth + 1) for key, item in value.items()}

    def _decoded(self, value: Any) -> Any:
        kind = _kind(value)
        if kind is list:
            return [self._decoded(item) for item in value]
        if kind is not dict:
            return value
        if value.keys() != _KEYS:
            return {key: self._decoded(item) for key, item in value.items()}
        name = value[TYPE]
        codec = self._by_name.get(name) if isinstance(name, str) else None
        if codec is None:
            raise _Fault(
                f"is of the type {reprlib.repr(name)}, which this worker does not list: "
                "codecs=[...] has " + (", ".join(self._by_name) or "none")
            )
        return _applied(codec, codec.decode, self._decoded(value[VALUE]))


class _Fault(Exception):
    """What is wrong with an argument; `_named` adds its name."""


def _named(change: Callable[[Any], Any], argument: Any, n: int, names: Sequence[str]) -> Any:
    try:
        return change(argument)
    except _Fault as fault:
        name = repr(names[n]) if n < len(names) else f"number {n + 1}"
        raise ArgumentError(f"argument {name} {fault}") from fault.__cause__
    except RecursionError:
        raise ArgumentError(f"argument number {n + 1} is nested too deep") from None


def _applied(codec: Codec[Any], step: Callable[[Any], Any] | None, value: Any) -> Any:
    assert step is not None
    try:
        return step(value)
    except (RecursionError, _Fault):
        raise
    except Exception as error:  # a user's codec may raise anything
        what = f"{type(error).__name__}: {error}"
        raise _Fault(f"is no {codec.name}: {reprlib.repr(value)} ({what})") from error


def _kind(value: object) -> type[Any]:
    return type(value)


def _name(kind: object) -> str:
    return str(getattr(kind, "__name__", None) or repr(kind))


def _codec(given: type | Codec[Any]) -> Codec[Any]:
    """The complete codec of an item of the list; ConfigError says what an item may be."""
    if not isinstance(given, Codec):
        return _known(given, None)
    if not isinstance(given.of, type) or not given.name or given.name != str(given.name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"codecs: {given!r}: give Codec(type, name, encode, decode)")
    if given.of in _PLAIN or (given.encode is None and given.decode is None):
        return _known(given.of, given.name)
    if given.encode is None or given.decode is None:
        raise ConfigError(f"codecs: {given.name!r} needs both encode and decode")
    return given


def _known(kind: Any, name: str | None) -> Codec[Any]:
    if kind in _PLAIN:
        raise ConfigError(f"codecs: {_name(kind)} travels as it is: leave it out")
    found = _steps(cast("type[Any]", kind)) if isinstance(kind, type) else None
    if found is not None:
        return Codec(cast("type[Any]", kind), name or _name(kind), *found)
    raise ConfigError(
        f"codecs: {_name(kind)} is not known; give a dataclass, an Enum, one of "
        f"{', '.join(map(_name, _STEPS))}, or Codec({_name(kind)}, name, encode, decode)"
    )


def _flag(kind: type[Flag], value: Any) -> Flag:
    """Refuse unknown bits: Python 3.11.2 drops them, later versions refuse them too."""
    flag = kind(value)
    if flag.value != value:
        raise ValueError(f"{value} has bits that {kind.__name__} has not")
    return flag


def _steps(kind: type[Any]) -> _Steps | None:
    """The two functions of a type that kiqpy can encode by itself: to JSON, and back."""
    if kind in _STEPS:
        return _STEPS[kind]
    if issubclass(kind, Flag):
        return (lambda flag: flag.value), partial(_flag, kind)
    if issubclass(kind, Enum):
        return (lambda member: member.name), (lambda text: kind[text])
    if dataclasses.is_dataclass(kind):
        return _fields, (lambda fields: kind(**fields))
    return None


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that its constructor takes; it makes the others itself."""
    fields = dataclasses.fields(value)
    return {field.name: getattr(value, field.name) for field in fields if field.init}


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise _Fault(
            "is a datetime with no time zone: use datetime.now(timezone.utc) or add tzinfo"
        )
    return moment


def _finite(number: Decimal) -> str:
    if not number.is_finite():
        raise ValueError("not finite")
    return str(number)


def _exact(text: str | int) -> Decimal:
    if type(text) is float:
        raise ValueError("a float is not exact, write a string")
    return Decimal(text)


def _as_seconds(span: timedelta) -> str:
    """Seconds as a text such as "-1.500000", because a float would not be exact."""
    micros = span // timedelta(microseconds=1)
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{whole}.{rest:06}"


def _from_seconds(given: str | float) -> timedelta:
    if not isinstance(given, str):
        return timedelta(seconds=given)
    found = re.fullmatch(_SECONDS, given)
    if found is None:
        raise ValueError("seconds expected, such as '1.500000'")
    span = timedelta(seconds=int(found[2]), microseconds=int((found[3] or "").ljust(6, "0")))
    return -span if found[1] else span


# For each type: to JSON, and back.
_STEPS: Final[Mapping[type, _Steps]] = {
    datetime: (
        lambda moment: _aware(moment).isoformat(),
        lambda text: _aware(datetime.fromisoformat(text)),
    ),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (_as_seconds, _from_seconds),
    UUID: (str, UUID),
    Decimal: (_finite, _exact),
    bytes: (
        lambda raw: b64encode(raw).decode(),
        lambda text: b64decode(text, validate=True),
    ),
    set: (list, lambda items: set(_listed(items))),
    frozenset: (list, lambda items: frozenset(_listed(items))),
    tuple: (list, lambda items: tuple(_listed(items))),
}


def _listed(items: Any) -> list[Any]:
    if type(items) is not _Array:
        raise ValueError("a list expected")
    return items

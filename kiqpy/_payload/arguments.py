"""Checks arguments: only values that JSON preserves may travel."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from kiqpy.errors import ArgumentError

MAX_DEPTH: Final = 64  # Ruby stops at 100, cjson at 1,000, Python's own stack at about 1,000
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROOTS: Final = frozenset((str, int, float, bool, type(None), list, dict))
_TEXT: Final = frozenset((str,))
_UNUSUAL: Final = (
    "is a float that JSON writers write differently"  # no fault, if it is the only one
)


def check_args(args: Sequence[Any], names: Sequence[str] = ()) -> bool:
    """Raise ArgumentError, naming the argument, for a value that JSON would not preserve.

    Returns whether any JSON writer writes these values as Ruby does. False: a float is very large
    or very small.
    """
    roots = _ROOTS.issuperset(map(type, args))
    first = _first(args, 0) if roots else None
    if roots and (first is None or first is _UNUSUAL):
        return first is None
    for n, value in enumerate(args):
        fault = _fault(value, 1) if type(value) in _ROOTS else _kind(value)
        if fault is not None and fault is not _UNUSUAL:
            name = repr(names[n]) if n < len(names) else f"number {n + 1}"
            raise ArgumentError(f"argument {name} {fault}")
    return False


def fault_of(value: Any) -> str | None:
    """Why JSON would not preserve a value; None: it would."""
    fault = _first((value,), 0)
    return None if fault is _UNUSUAL else fault


def _first(values: Collection[Any], depth: int) -> str | None:
    """The first fault among values. Frequent types pass without a call for each."""
    if depth >= MAX_DEPTH and values:
        return f"is nested deeper than {MAX_DEPTH} levels: pass a flatter value"
    unusual: str | None = None
    for value in values:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str:
            if value.isascii():
                continue
        elif kind is int:
            if _MIN_INT <= value <= _MAX_INT:
                continue
        elif kind is bool or value is None:
            continue
        if (fault := _fault(value, depth + 1)) is not None:
            if fault is not _UNUSUAL:
                return fault
            unusual = fault
    return unusual


def _fault(value: Any, depth: int) -> str | None:
    """What is wrong with a value."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is list:
        held: Collection[Any] = value
        return _first(held, depth)
    if kind is dict:
        named: dict[Any, Any] = value
        if not _TEXT.issuperset(map(type, named)):
            return "has a key that is not a string: JSON objects have string keys"
        return _first(named, depth) or _first(named.values(), depth)
    return None if value is None else _rare(value)


def _rare(value: Any) -> str | None:
    """The fault of a scalar. A subclass is a fault: it would arrive as its base class."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is float:
        if value - value != 0:
            return f"is {value}, which JSON has no word for"
        return None if not value or 1e-4 <= abs(value) < 1e15 else _UNUSUAL
    if kind is str:
        return _text(value)
    if kind is bool:
        return None
    return _whole(value) if kind is int else _kind(value)


def _text(value: str) -> str | None:
    return "holds a lone surrogate: not valid UTF-8" if _SURROGATE.search(value) else None


def _whole(value: int) -> str | None:
    return None if _MIN_INT <= value <= _MAX_INT else "does not fit 64 bits: pass a string"


def _kind(value: object) -> str:
    from kiqpy._payload.advice import advice  # deferred: it costs memory, and only errors need it

    return (
        f"is a {type(value).__qualname__}: jobs carry JSON only "
        f"(str, int, float, bool, None, list, dict with string keys); {advice(value)}"
    )

"""What may be an argument: JSON's own values, and only those that arrive as they left."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from kiqpy.errors import ArgumentError

MAX_DEPTH: Final = 64  # Ruby stops at 100, cjson at 1,000, Python's own stack at about 1,000
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROOTS: Final = frozenset((str, int, float, bool, type(None), list, dict))
_TEXT: Final = frozenset((str,))


def check_args(args: Sequence[Any], names: Sequence[str] = ()) -> None:
    """Refuse, by name, what would not arrive as it left: see `SPEC` 3, strict arguments."""
    if _ROOTS.issuperset(map(type, args)) and _first(args, 0) is None:
        return
    for n, value in enumerate(args):
        fault = _fault(value, 1) if type(value) in _ROOTS else _kind(value)
        if fault is not None:
            name = repr(names[n]) if n < len(names) else f"number {n + 1}"
            raise ArgumentError(f"argument {name} {fault}")


def _first(values: Collection[Any], depth: int) -> str | None:
    """The first fault there is. The frequent kinds are let pass without a call for each."""
    if depth >= MAX_DEPTH and values:
        return f"is nested deeper than {MAX_DEPTH} levels: pass a flatter value"
    for value in values:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str:
            if value.isascii():
                continue
        elif kind is int:
            if _SMALLEST <= value <= _LARGEST:
                continue
        elif kind is bool or value is None:
            continue
        if (fault := _fault(value, depth + 1)) is not None:
            return fault
    return None


def _fault(value: Any, depth: int) -> str | None:
    """What is wrong with a value."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is list:
        held: Collection[Any] = value
        return _first(held, depth)
    if kind is dict:
        named: dict[Any, Any] = value
        if not _TEXT.issuperset(map(type, named)) and not all(isinstance(k, str) for k in named):
            return "has a key that is not a string: JSON objects have string keys"
        return _first(named, depth) or _first(named.values(), depth)
    return None if value is None else _rare(value)


def _rare(value: Any) -> str | None:
    """Scalars, and subclasses of them, which travel as what they are derived from."""
    if isinstance(value, float):
        return None if value - value == 0 else f"is {value}, which JSON has no word for"
    if isinstance(value, str):
        return _text(value)
    return _whole(value) if isinstance(value, int) else _kind(value)


def _text(value: str) -> str | None:
    return "holds a lone surrogate: not valid UTF-8" if _SURROGATE.search(value) else None


def _whole(value: int) -> str | None:
    return None if _SMALLEST <= value <= _LARGEST else "does not fit 64 bits: pass a string"


def _kind(value: object) -> str:
    return (
        f"is a {type(value).__qualname__}: jobs carry JSON only "
        "(str, int, float, bool, None, list, dict with string keys)"
    )

"""Says what to write instead of an argument that JSON can't carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

# Types that have a codec, like all enums and dataclasses.
_KNOWN: Final = frozenset(
    (datetime, date, time, timedelta, UUID, Decimal, bytes, set, frozenset, tuple)
)
_DERIVED: Final = (str, int, float, list, dict, tuple)


def advice(value: object) -> str:
    """The end of a message about a refused `value`: how to pass it instead."""
    kind: type[Any] = type(value)
    name = kind.__name__
    if isinstance(value, type):
        return f"pass its name, {value.__name__!r}"
    if callable(getattr(value, "model_dump", None)):  # a model of pydantic
        return 'pass value.model_dump(mode="json")'
    if kind in _KNOWN or isinstance(value, Enum) or is_dataclass(value):
        return f"declare the worker with codecs=[{name}]{_or_plain(value)}"
    if kind.__module__ == "numpy" and callable(getattr(value, "item", None)):
        return f"pass value.{'item' if getattr(value, 'shape', ()) == () else 'tolist'}()"
    for plain in _DERIVED:
        if issubclass(kind, plain):
            return f"pass {'list' if plain is tuple else plain.__name__}(value)"
    if isinstance(value, Mapping):
        return "pass dict(value)"
    return f"pass its id or its fields, or declare the worker with codecs=[Codec({name}, ...)]"


def _or_plain(value: object) -> str:
    if isinstance(value, str | int) and isinstance(value, Enum):
        return ", or pass value.value"
    return ", or pass list(value)" if isinstance(value, tuple | set | frozenset) else ""

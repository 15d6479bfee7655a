"""Reads jobs of Rails' ActiveJob, which Sidekiq wraps, into Python's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from kiqpy.errors import ArgumentError

_RECORD: Final = "_aj_globalid"
_SERIALIZER: Final = "_aj_serialized"
# Not Final, for which pyright would infer the type of each value.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "SymbolSerializer": str,
    "TimeSerializer": datetime.fromisoformat,
    "DateTimeSerializer": datetime.fromisoformat,
    "TimeWithZoneSerializer": datetime.fromisoformat,
    "DateSerializer": date.fromisoformat,
    "DurationSerializer": lambda seconds: timedelta(seconds=float(seconds)),
    "BigDecimalSerializer": Decimal,
}


def unwrapped(payload: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Class name and arguments of the job in a wrapper's payload.

    Symbols become text, times aware datetimes, and hashes dicts whose keys are text.
    Raises: ArgumentError: the payload has no job, or an argument is a record of the Rails
    application, which only Ruby can load.
    """
    wire = payload.get("args")
    inner: Any = cast("list[object]", wire)[0] if isinstance(wire, list) and wire else None
    if not isinstance(inner, dict):
        raise ArgumentError("this is no job of ActiveJob: the wrapper's argument is no object")
    job = cast("dict[str, Any]", inner)
    name, arguments = payload.get("wrapped") or job.get("job_class"), job.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, list):
        raise ArgumentError("this is no job of ActiveJob: it has no class, or no list of arguments")
    given = cast("list[object]", arguments)
    return name, [_value(value, f"argument number {n}") for n, value in enumerate(given, 1)]


def _value(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_value(item, where) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    named = cast("dict[str, Any]", value)
    if _RECORD in named:
        raise ArgumentError(
            f"{where} is the record {named[_RECORD]}, which only Ruby can load: pass its id instead"
        )
    if _SERIALIZER in named:
        return _read(named, where)
    return {k: _value(v, where) for k, v in named.items() if not k.startswith("_aj_")}


def _read(named: Mapping[str, Any], where: str) -> Any:
    kind = str(named[_SERIALIZER])
    read = _READERS.get(kind.removeprefix("ActiveJob::Serializers::"))
    if read is None:
        raise ArgumentError(
            f"{where} was written by {kind}, which Python can't read; pass another type"
        )
    try:
        return read(named.get("value"))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ArgumentError(
            f"{where}: {kind} has written {named.get('value')!r}: {error}"
        ) from None

"""Frozen values with slots, at a tenth of what dataclasses cost an import.

`@dataclass(frozen=True, slots=True)` writes and compiles eight functions for each class, 0.6 ms;
there are dozens of events. Here all classes share them, but for the constructor, which is written
when the first value is made: most kinds of events are never heard in a process.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, cast, dataclass_transform


def _first(self: object, *values: Any, **named: Any) -> None:
    """A class's constructor until the first call of it."""
    kind = cast("Any", type(self))
    kind.__init__ = _constructor(kind)
    kind.__init__(self, *values, **named)


def _constructor(kind: Any) -> Any:
    """Written out for its fields: a loop over them would take twice as long, at each event."""
    names = [field.name for field in fields(kind)]
    lines = [f"set_{name}(self, {name})" for name in names] or ["pass"]
    scope: dict[str, Any] = {f"set_{name}": getattr(kind, name).__set__ for name in names}
    exec(f"def __init__({', '.join(['self', *names])}):\n " + "\n ".join(lines), scope)
    made = scope["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


@dataclass_transform(frozen_default=True)
class _Kind(type):
    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        declared: dict[str, object] = body.get("__annotations__", {})
        body["__init__"] = _first
        body["__slots__"] = tuple(f for f in declared if "ClassVar" not in str(declared[f]))
        made: Any = super().__new__(cls, name, bases, body)
        dataclass(init=False, repr=False, eq=False)(made)
        return made


class Record(metaclass=_Kind):
    """A subclass's annotations are its fields. Without defaults; otherwise a frozen dataclass."""

    if TYPE_CHECKING:
        __match_args__: ClassVar[tuple[str, ...]]  # the fields' names

    def __repr__(self) -> str:
        pairs = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{f}={value!r}' for f, value in pairs)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), self._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    if not TYPE_CHECKING:  # checkers know from the metaclass that it is frozen

        def __setattr__(self, name: str, _value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")

"""Frozen values with slots, at a tenth of what dataclasses cost an import.

`@dataclass(frozen=True, slots=True)` writes and compiles eight functions for each class, 0.6 ms
and more; there are dozens of events. Here all classes share them, but for the constructor, which
is written when the first value is made: most kinds of events are never heard in a process.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast, dataclass_transform


def _first(self: object, *values: Any, **named: Any) -> None:
    """A class's constructor until the first call of it."""
    kind = cast("Any", type(self))
    kind.__init__ = _constructor(kind)
    kind.__init__(self, *values, **named)


def _constructor(kind: Any) -> Any:
    """Written out for its fields: a loop over them would take twice as long, at each event."""
    scope: dict[str, Any] = {}
    takes, takes_named, lines = ["self"], ["*"], ["pass"]
    for field in fields(kind):
        name = field.name
        scope[f"set_{name}"], scope[f"default_{name}"] = getattr(kind, name).__set__, field.default
        lines.append(f"set_{name}(self, {name})")
        parameters = takes_named if field.kw_only else takes
        parameters.append(name if field.default is MISSING else f"{name}=default_{name}")
    parameters = takes + takes_named * (len(takes_named) > 1)
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), scope)
    made = scope["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


@dataclass_transform(frozen_default=True)
class _Kind(type):
    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, kw_only: bool = False
    ) -> Any:
        declared: dict[str, object] = body.get("__annotations__", {})
        own = tuple(field for field in declared if "ClassVar" not in str(declared[field]))
        defaults = {field: body.pop(field) for field in own if field in body}
        made: Any = super().__new__(cls, name, bases, {**body, "__slots__": own})
        made.__init__ = _first
        dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(made)
        for field, default in defaults.items():
            made.__dataclass_fields__[field].default = default
        return made


class Record(metaclass=_Kind):
    """A subclass's annotations are its fields: else a frozen dataclass, without factories."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={value!r}" for name, value in self._named().items())
        return f"{type(self).__qualname__}({pairs})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self._named() == other._named()

    def __hash__(self) -> int:
        return hash(tuple(self._named().values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._named()), ()

    def _named(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    if not TYPE_CHECKING:  # checkers know from the metaclass that it is frozen

        def __setattr__(self, name: str, _value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")

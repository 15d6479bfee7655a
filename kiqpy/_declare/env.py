"""Options that are read from the environment when the app starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, cast, overload

from kiqpy.errors import ConfigError

T = TypeVar("T")


_REQUIRED: Final = object()


class Env(NamedTuple):
    """A value that is read from the environment when the app starts. Made by `env`."""

    variable: str
    cast: Callable[[str], Any]
    default: Any

    def read(self) -> Any:
        text = os.environ.get(self.variable)
        if text is None:
            if self.default is _REQUIRED:
                raise ConfigError(f"the environment variable {self.variable} is not set")
            return self.default
        try:
            return _truth(text) if self.cast is bool else self.cast(text)
        except Exception as error:  # a user's function; its words may quote a secret
            how = "true or false" if self.cast is bool else f"what {_name(self.cast)} takes"
            raise ConfigError(
                f"the environment variable {self.variable} can't be read "
                f"({type(error).__name__}): set it to {how}"
            ) from None


def _truth(text: str) -> bool:
    """`bool` would take every text but the empty one for True."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError


def _name(cast: Callable[[str], Any]) -> str:
    return str(getattr(cast, "__qualname__", type(cast).__qualname__))


@overload
def env(variable: str, *, default: str | None = ...) -> Any: ...
@overload
def env(variable: str, cast: Callable[[str], T], default: T = ...) -> T: ...
def env(variable: str, cast: Callable[[str], Any] = str, default: Any = _REQUIRED) -> Any:
    """A value for any option, or for a part of one: `cast($variable)`, read when the app starts.

    Options of a worker and a QueueGroup read it when they are declared. `cast=bool` accepts true,
    yes, on and 1, and false, no, off, 0 and the empty text. `default`: the value without the
    variable; may be None. For checkers it has the type that `cast` returns.

    Raises: ConfigError: there is neither variable nor default, or `cast` raises an exception; the
    message does not show the variable's text.
    """
    return Env(variable, cast, default)


def holds_env(value: object) -> bool:
    """Whether a value, or a part of it, is read from the environment."""
    if isinstance(value, Env):
        return True
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return any(holds_env(part) for pair in pairs.items() for part in pair)
    return type(value) in (list, tuple) and any(map(holds_env, cast("list[object]", value)))


def read_env(value: Any) -> Any:
    """The value with its parts from the environment filled in. Raises: ConfigError."""
    if isinstance(value, Env):
        return value.read()
    if not holds_env(value):
        return value
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return {read_env(name): read_env(part) for name, part in pairs.items()}
    return type(value)(map(read_env, value))

"""Options that are read from the environment when the app starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast, overload

from kiqpy.errors import ConfigError

T = TypeVar("T")


class Env(NamedTuple):
    """A value that is read from the environment when the app starts. Made by `env`."""

    variable: str
    cast: Callable[[str], Any]
    default: Any

    def read(self) -> Any:
        text = os.environ.get(self.variable)
        if text is None:
            if self.default is None:
                raise ConfigError(f"the environment variable {self.variable} is not set")
            return self.default
        try:
            return self.cast(text)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self.variable}={text!r}: {error}") from None


@overload
def env(variable: str, *, default: str | None = None) -> Any: ...
@overload
def env(variable: str, cast: Callable[[str], T], default: T | None = None) -> T: ...
def env(variable: str, cast: Callable[[str], Any] = str, default: Any = None) -> Any:
    """A value for any option: `cast($variable)`, read when the app starts.

    Without the variable it is `default`. ConfigError, when the app starts, if there is neither,
    or if `cast` raises ValueError or TypeError. Checkers take it for what `cast` returns.
    """
    return Env(variable, cast, default)


def holds_env(value: object) -> bool:
    """Whether it is to be read from the environment, it or a part of it."""
    if isinstance(value, Mapping):
        return any(map(holds_env, cast("Mapping[object, object]", value).values()))
    return isinstance(value, Env)


def read_env(value: Any) -> Any:
    """The value, with what comes from the environment in its place. Raises ConfigError."""
    if isinstance(value, Env):
        return value.read()
    if holds_env(value):
        return {name: read_env(part) for name, part in value.items()}
    return value

"""What users give to be called: whether calling it gives something to await, and its name."""

from __future__ import annotations

import functools
import inspect

from kiqpy.errors import ConfigError


def is_async(call: object) -> bool:
    """Whether a function, a partial of one, or an object with `__call__` is `async def`."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(_of_object(call))


def refuse_generator(what: str, call: object) -> None:
    """ConfigError if calling it would only make a generator, whose body nobody would run."""
    for found in (call, _of_object(call)):
        if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
            raise ConfigError(
                f"{what} is a generator, whose body would never run: remove `yield`, and return "
                "what it made"
            )


def name_of(call: object) -> str | None:
    """The name that a function has by itself; partials and objects have none."""
    name = getattr(call, "__name__", None)
    return name if isinstance(name, str) else None


def _of_object(call: object) -> object:
    """`__call__` of a callable object, behind any partial; None for functions and classes."""
    while isinstance(call, functools.partial):
        call = call.func
    if inspect.isroutine(call) or inspect.isclass(call):
        return None
    return getattr(type(call), "__call__", None)  # noqa: B004

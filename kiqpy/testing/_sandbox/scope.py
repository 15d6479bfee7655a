"""Whose jobs are whose: each test has a scope, which the tasks that it starts inherit.

A scope that is opened in an event loop travels in a context variable: what a task of another test
or a long-lived one enqueues is not in it. One that is opened outside of any loop, in a plain
fixture or a plain test, can't reach contexts that exist already: it takes in whatever is in no
other scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Literal, final

from kiqpy._flow.tasks import keep_in_contexts

Mode = Literal["sandbox", "inline", "fake", "redis"]


@final
class Scope:
    """One test's share; `mode` is what it has asked of `owner`, an app's ledger."""

    def __init__(
        self, parent: Scope | None = None, owner: object = None, mode: Mode | None = None
    ) -> None:
        self._parent, self._owner = parent, owner
        self._mode: Mode | None = mode

    def holds(self, other: Scope | None) -> bool:
        """Whether the other scope is this one, or was opened within it."""
        return other is self or (other is not None and self.holds(other._parent))

    def mode(self, owner: object) -> Mode | None:
        """What was last asked of `owner` here."""
        if self._mode is not None and self._owner is owner:
            return self._mode
        return self._parent.mode(owner) if self._parent is not None else None


_carried: ContextVar[Scope] = ContextVar("kiqpy_scope")
keep_in_contexts(_carried)  # so that what a test's jobs enqueue is in its scope
_outside: list[Scope] = [Scope()]


def here() -> Scope:
    """The scope of the code that asks."""
    return _carried.get(_outside[-1])


@contextmanager
def opened(owner: object = None, mode: Mode | None = None) -> Generator[Scope]:
    """A scope within the present one, for as long as the block lasts."""
    scope = Scope(here(), owner, mode)
    if not _in_loop():
        _outside.append(scope)
        try:
            yield scope
        finally:
            _outside.remove(scope)
        return
    token = _carried.set(scope)
    try:
        yield scope
    finally:
        with suppress(ValueError):  # a fixture's end may run in another context than its start
            _carried.reset(token)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
